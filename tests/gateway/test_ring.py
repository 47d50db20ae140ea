"""One ring's life; how rings break and come again is in test_conductor.py and tests/e2e."""

from __future__ import annotations

import asyncio

import pytest
from tests.support.hand_node import Asked, HandNode
from tests.support.rings import wait_until

from atoll.gateway import ring as module
from atoll.gateway.serve import Gateway

pytestmark = [pytest.mark.engine, pytest.mark.network]


async def test_its_members_are_its_own_while_it_lives(
    ring_gateway: Gateway, hand_node: HandNode
) -> None:
    [ring] = ring_gateway.conductor.rings
    assert (ring.players, ring.driver, ring.cast) == ((), None, None)
    assert not ring.is_last(hand_node.identity.node_id)
    await hand_node.form(ring_gateway.join_files[0])
    await wait_until(lambda: ring.driver is not None)
    assert [member.name for member in ring.players] == ["hand"]
    assert ring.is_last(hand_node.identity.node_id)
    hand_node.control.close()
    await wait_until(lambda: not ring.taken)
    assert (ring.players, ring.driver) == ((), None)
    assert not ring.is_last(hand_node.identity.node_id)
    assert ring.reason == "the node hand is gone"


async def test_one_that_is_rearranged_lets_its_streams_end_first(
    ring_gateway: Gateway, hand_node: HandNode
) -> None:
    conductor = ring_gateway.conductor
    [ring] = conductor.rings
    await hand_node.form(ring_gateway.join_files[0])
    await wait_until(lambda: ring.driver is not None)
    before = hand_node.plan.epoch
    running, held = Asked(), Asked()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(running.run(ring_gateway, 5))
        await hand_node.pass_on()
        ring.rearrange()
        await wait_until(lambda: ring.is_winding_down and not conductor.health().ready)
        assert conductor.health().holds
        # Who asks now waits for the next ring.
        tasks.create_task(held.run(ring_gateway, 5))
        serving = tasks.create_task(hand_node.serve())
        await wait_until(lambda: len(running.tokens) == 5)
        serving.cancel()
        await hand_node.link_up()
        hand_node.ready()
        serving = tasks.create_task(hand_node.serve())
        await wait_until(lambda: len(held.tokens) == 5)
        serving.cancel()
    assert (running.error, held.error) == (None, None)
    assert hand_node.plan.epoch > before


async def test_streams_that_do_not_end_hold_it_for_so_long_only(
    ring_gateway: Gateway, hand_node: HandNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WIND_DOWN_S", 0.2)
    [ring] = ring_gateway.conductor.rings
    await hand_node.form(ring_gateway.join_files[0])
    await wait_until(lambda: ring.driver is not None)
    running = Asked()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(running.run(ring_gateway, 5))
        await hand_node.pass_on()
        ring.rearrange()
    assert "being rearranged" in str(running.error)
