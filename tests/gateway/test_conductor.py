"""Forming a ring, keeping it, giving it up, and forming it again."""

from __future__ import annotations

import asyncio
import itertools

import msgspec
import pytest
from tests.support.hand_node import Asked, HandNode, open_hand_node
from tests.support.rings import wait_until
from tests.support.small_gateway import OpenGateway

from atoll.domain.control import Leave, PlanNotice, SessionFailed, StageFailed, Welcome
from atoll.domain.errors import BadRequest, EngineFault, Overloaded, RingDown
from atoll.domain.generation import GenerateRequest
from atoll.domain.ids import NO_SESSION, Epoch, NodeId
from atoll.gateway import patience as patience_module
from atoll.gateway import ring as ring_module
from atoll.gateway.serve import Gateway
from atoll.net.identity import Identity
from atoll.net.link import NotWelcome

pytestmark = [pytest.mark.engine, pytest.mark.network]


async def test_a_ring_serves_once_every_stage_is_ready(
    ring_gateway: Gateway, hand_node: HandNode, said: list[str]
) -> None:
    conductor = ring_gateway.conductor
    assert conductor.health().reason == "waiting for 1 nodes to join"
    await hand_node.join(ring_gateway.join_files[0])
    await hand_node.heard.next_message(Welcome)
    await hand_node.link_up()
    await asyncio.sleep(0.05)
    assert not conductor.health().ready
    assert conductor.health().reason == "the ring is being formed"
    hand_node.ready()
    await wait_until(lambda: conductor.health().ready)
    assert said[-1].startswith("the ring is complete: gateway → hand [1, 5) → gateway")
    assert hand_node.plan.stages[0].node == hand_node.identity.node_id
    asked = Asked()
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(hand_node.serve())
        await asked.run(ring_gateway, 6)
        serving.cancel()
    assert (len(asked.tokens), asked.error) == (6, None)


async def test_only_the_last_stage_may_link(ring_gateway: Gateway, hand_node: HandNode) -> None:
    await hand_node.form(ring_gateway.join_files[0])
    with pytest.raises(NotWelcome, match="the plan names another neighbour"):
        await hand_node.dial_down(Identity.generate())
    await wait_until(lambda: ring_gateway.conductor.health().ready)


async def test_attempts_are_bounded_until_the_fleet_changes(
    ring_gateway: Gateway, hand_node: HandNode, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience_module, "AGAIN_S", 0.01)
    monkeypatch.setattr(patience_module, "ATTEMPTS_MAX", 3)
    await hand_node.join(ring_gateway.join_files[0])
    for counter in (1, 2, 3):
        await hand_node.heard.next_message(PlanNotice)
        epoch = ring_gateway.status().rings[0].epoch
        assert epoch[1] == counter
        hand_node.control.send(StageFailed(Epoch(*epoch), "the model is not here (pull it)"))
    await wait_until(lambda: any("3 attempts failed" in line for line in said))
    await asyncio.sleep(0.3)
    assert hand_node.heard.messages.empty()
    health = ring_gateway.conductor.health()
    assert health.reason == "the stage on hand failed: the model is not here (pull it)"
    with pytest.raises(RingDown, match="the model is not here"):
        await anext(ring_gateway.conductor.generate(a_request()))
    hand_node.control.close()
    await wait_until(ring_gateway.join_files[0].exists)
    async with open_hand_node() as other:
        await other.form(ring_gateway.join_files[0])
        await wait_until(lambda: ring_gateway.conductor.health().ready)
        assert ring_gateway.status().rings[0].epoch[1] == 4


def a_request() -> GenerateRequest:
    return GenerateRequest((5, 6), 4)


async def test_pauses_grow(
    ring_gateway: Gateway, hand_node: HandNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience_module, "AGAIN_S", 0.1)
    await hand_node.join(ring_gateway.join_files[0])
    at_s = []
    for _ in range(4):
        await hand_node.heard.next_message(PlanNotice)
        at_s.append(asyncio.get_running_loop().time())
        hand_node.control.send(StageFailed(Epoch(*ring_gateway.status().rings[0].epoch), "no"))
    pauses = [b - a for a, b in itertools.pairwise(at_s)]
    assert pauses[0] >= 0.1
    assert pauses[1] >= 0.2
    assert pauses[2] >= 0.4


async def test_a_late_failure_of_an_old_epoch_breaks_nothing(
    ring_gateway: Gateway, hand_node: HandNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience_module, "AGAIN_S", 0.01)
    await hand_node.form(ring_gateway.join_files[0])
    await wait_until(lambda: ring_gateway.conductor.health().ready)
    old = hand_node.plan.epoch
    hand_node.control.send(StageFailed(old, "once"))
    await hand_node.link_up()
    hand_node.ready()
    await wait_until(lambda: ring_gateway.conductor.health().ready)
    asked = Asked()
    async with asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(asked.run(ring_gateway, 4))
        window, _ = await hand_node.window()
        hand_node.control.send(StageFailed(old, "late"))
        hand_node.control.send(SessionFailed(old, window.session, 0, "x", "late"))
        hand_node.control.send(SessionFailed(hand_node.plan.epoch, NO_SESSION, 0, "x", "nobody"))
        await asyncio.sleep(0.1)
        assert not asking.done()
        assert ring_gateway.conductor.health().ready
        failed = SessionFailed(hand_node.plan.epoch, window.session, 0, "engine", "NaN")
        hand_node.control.send(failed)
        # It is tried once more, as another session.
        window, _ = await hand_node.window()
        assert window.session != failed.session
        hand_node.control.send(msgspec.structs.replace(failed, session=window.session))
    assert isinstance(asked.error, EngineFault)
    assert "NaN" in asked.error.problem
    assert ring_gateway.conductor.health().ready


async def test_a_neighbour_that_keeps_windows_is_given_up(
    open_ring_gateway: OpenGateway, hand_node: HandNode
) -> None:
    async with open_ring_gateway(stall_s=0.4) as gateway:
        await hand_node.form(gateway.join_files[0])
        await wait_until(lambda: gateway.conductor.health().ready)
        # An idle ring is no stalled one.
        await asyncio.sleep(0.8)
        assert gateway.conductor.health().ready
        asked = Asked()
        await asked.run(gateway, 4)
        assert isinstance(asked.error, RingDown)
        assert "no answer came round the ring for 0.4 s" in asked.error.problem


async def test_a_ring_that_cannot_be_formed_in_time(
    ring_gateway: Gateway, hand_node: HandNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ring_module, "FORM_S", 0.5)
    await hand_node.join(ring_gateway.join_files[0])
    await wait_until(
        lambda: "could not be formed within 0.5 s" in ring_gateway.conductor.health().reason
    )


async def test_a_node_that_leaves_while_the_ring_is_formed(
    ring_gateway: Gateway, hand_node: HandNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience_module, "AGAIN_S", 0.1)
    await hand_node.join(ring_gateway.join_files[0])
    await hand_node.heard.next_message(PlanNotice)
    hand_node.control.close()
    await wait_until(lambda: ring_gateway.conductor.health().reason == "the node hand is gone")
    async with open_hand_node() as other:
        await wait_until(ring_gateway.join_files[0].exists)
        await other.form(ring_gateway.join_files[0])
        await wait_until(lambda: ring_gateway.conductor.health().ready)


async def test_slots_run_out_and_the_line_is_bounded(
    open_ring_gateway: OpenGateway, hand_node: HandNode
) -> None:
    async with open_ring_gateway(streams=1, waiting=1) as gateway:
        await hand_node.form(gateway.join_files[0])
        await wait_until(lambda: gateway.conductor.health().ready)
        first, second, third = Asked(), Asked(), Asked()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(first.run(gateway, 3))
            await hand_node.window()
            waiting = tasks.create_task(second.run(gateway, 3))
            await wait_until(lambda: gateway.status().waiting == 1)
            await third.run(gateway, 3)
            waiting.cancel()
            await wait_until(lambda: gateway.status().waiting == 0)
            hand_node.control.close()
    assert isinstance(third.error, Overloaded)
    assert third.error.retry_after_s >= 1
    assert isinstance(first.error, RingDown)


async def test_a_prompt_too_long_is_a_bad_request(
    ring_gateway: Gateway, hand_node: HandNode
) -> None:
    await hand_node.form(ring_gateway.join_files[0])
    await wait_until(lambda: ring_gateway.conductor.health().ready)
    asked = Asked()
    await asked.run(ring_gateway, 3, prompt=(5,) * 129)
    assert isinstance(asked.error, BadRequest)
    assert "129 tokens" in asked.error.problem


async def test_closing_the_gateway_ends_streams_with_a_reason(
    open_ring_gateway: OpenGateway, hand_node: HandNode
) -> None:
    asked = Asked()
    async with asyncio.TaskGroup() as tasks, open_ring_gateway() as gateway:
        await hand_node.form(gateway.join_files[0])
        await wait_until(lambda: gateway.conductor.health().ready)
        tasks.create_task(asked.run(gateway, 3))
        await hand_node.window()
    assert isinstance(asked.error, RingDown)
    assert "the gateway is closing" in asked.error.problem
    assert hand_node.gateway != NodeId("")


async def test_a_node_that_comes_and_goes_at_once_ends_only_an_attempt(
    ring_gateway: Gateway, hand_node: HandNode, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience_module, "AGAIN_S", 0.01)
    await hand_node.form(ring_gateway.join_files[0])
    await wait_until(lambda: ring_gateway.conductor.health().ready)
    for _ in range(3):
        hand_node.control.close()
        await wait_until(ring_gateway.join_files[0].exists)
        await hand_node.join(ring_gateway.join_files[0])
        hand_node.control.send(Leave("at once"))
        await hand_node.heard.wait_ended()
    await wait_until(ring_gateway.join_files[0].exists)
    async with open_hand_node() as other:
        await other.form(ring_gateway.join_files[0])
        await wait_until(lambda: ring_gateway.conductor.health().ready)


async def test_what_a_ring_waits_for_is_told(
    ring_gateway: Gateway, hand_node: HandNode, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ring_module, "FORM_S", 2.0)
    await hand_node.join(ring_gateway.join_files[0])
    await hand_node.link_up()
    await wait_until(lambda: any("hand did not get ready" in line for line in said))
