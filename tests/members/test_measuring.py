"""Nodes driven by hand that are asked to measure, and what the gateway makes of their answers."""

from __future__ import annotations

import asyncio
import math
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.support.hand_node import HandNode, open_hand_node
from tests.support.rings import wait_until
from tests.support.small_gateway import OpenGateway

from atoll.domain.control import Refusal, Welcome
from atoll.domain.ids import ModelId
from atoll.domain.measure import Measure, Measured, NotMeasured, TierMemory, WindowTime, rows_for
from atoll.gateway.serve import Gateway
from atoll.members import measuring
from atoll.members.fleet import Fleet
from atoll.members.measuring import Measuring
from atoll.members.register import REGISTER_FILE, Register
from atoll.net.ticket import Ticket

pytestmark = [pytest.mark.engine, pytest.mark.network]


def answer(order: Measure, **changes: Any) -> Measured:
    measured = Measured(
        model=order.model,
        engine_build="llama.cpp-b1",
        device="Great GPU",
        threads=1,
        threads_large=2,
        layer_s=tuple(WindowTime(rows, 0.001 * rows) for rows in rows_for(order.rows_max)),
        overhead_s=0.002,
        memory=(TierMemory("RAM", "ram", 1, 2),),
        measured_at_s=1.0,
    )
    return replace(measured, **changes)


async def asked(node: HandNode, gateway: Gateway, place: int = 0) -> Measure:
    """Join, and take the order."""
    await node.join(gateway.join_files[place])
    await node.heard.next_message(Welcome)
    return await node.heard.next_message(Measure)


async def join_as_spare(gateway: Gateway, node: HandNode, folder: Path, **changes: Any) -> Measure:
    register = Register(folder / "gateway" / REGISTER_FILE)
    invitation, secret = register.invite("friend", uses=1, lifetime_s=60)
    ticket = Ticket(gateway.key, gateway.addresses, secret, invitation.expires)
    path = folder / f"{node.identity.node_id}.join"
    ticket.write(path)
    await node.join(path, **changes)
    return await node.heard.next_message(Measure)


async def test_the_ring_is_formed_of_measured_nodes(
    open_ring_gateway: OpenGateway, hand_node: HandNode
) -> None:
    async with open_ring_gateway(plan="auto") as gateway:
        order = await asked(hand_node, gateway)
        assert (order.rows_max, order.busy) == (64, False)
        assert (order.short.first, order.short.last) == (1, 2)
        await asyncio.sleep(0.1)
        assert hand_node.heard.messages.empty()
        hand_node.control.send(answer(order))
        await hand_node.link_up()
        hand_node.ready()
        await wait_until(lambda: gateway.conductor.health().ready)
        [stage] = gateway.status().rings[0].stages
        assert (stage.measured, stage.layer_ms) == (True, 1.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"model": ModelId("f" * 64)},
        {"layer_s": tuple(WindowTime(rows, math.nan) for rows in rows_for(64))},
    ],
)
async def test_nonsense_is_logged_and_counts_as_not_measured(
    open_ring_gateway: OpenGateway,
    hand_node: HandNode,
    changes: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What else is nonsense, tests/domain/test_measure.py tries."""
    async with open_ring_gateway(plan="auto") as gateway:
        order = await asked(hand_node, gateway)
        hand_node.control.send(answer(order, **changes))
        await hand_node.link_up()
        [stage] = gateway.status().rings[0].stages
        assert (stage.measured, stage.layer_ms) == (False, 0.0)
        assert "measuring.nonsense node=hand" in caplog.text


async def test_who_cannot_measure_has_a_place_even_so(
    open_ring_gateway: OpenGateway, hand_node: HandNode, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_ring_gateway(plan="auto") as gateway:
        await asked(hand_node, gateway)
        hand_node.control.send(NotMeasured("no\x1b room"))
        await hand_node.link_up()
        assert not gateway.status().rings[0].stages[0].measured
        assert "measuring.failed node=hand problem=no? room" in caplog.text


async def test_a_ring_does_not_wait_for_ever(
    open_ring_gateway: OpenGateway, hand_node: HandNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "WAIT_S", 0.2)
    async with open_ring_gateway(plan="auto") as gateway:
        order = await asked(hand_node, gateway)
        await hand_node.link_up()
        assert not gateway.status().rings[0].stages[0].measured
        # Its answer counts when it comes after all.
        hand_node.control.send(answer(order))
        await wait_until(lambda: gateway.status().rings[0].stages[0].measured)


async def test_without_being_asked_nobody_is_heard(
    open_ring_gateway: OpenGateway, hand_node: HandNode, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_ring_gateway(plan="auto") as gateway:
        order = await asked(hand_node, gateway)
        hand_node.control.send(answer(order))
        hand_node.control.send(answer(order, overhead_s=99.0))
        await hand_node.link_up()
        await wait_until(lambda: "measuring.unasked node=hand" in caplog.text)
        [member] = fleet_of(gateway).members
        assert member.measured == answer(order)


async def test_an_order_is_nothing_that_a_node_may_send(
    open_ring_gateway: OpenGateway, hand_node: HandNode
) -> None:
    async with open_ring_gateway(plan="auto") as gateway:
        order = await asked(hand_node, gateway)
        hand_node.control.send(order)
        assert "may not send a Measure" in (await hand_node.heard.next_message(Refusal)).problem


def fleet_of(gateway: Gateway) -> Fleet:
    return gateway.conductor._fleet


async def test_nodes_of_one_machine_measure_one_after_the_other(
    open_ring_gateway: OpenGateway,
) -> None:
    async with open_ring_gateway(plan="auto", nodes=3) as gateway, AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(open_hand_node()) for _ in range(3)]
        order = await asked(nodes[0], gateway)
        await nodes[1].join(gateway.join_files[1])
        await nodes[2].join(gateway.join_files[2], host_id="another")
        # Another machine measures at the same time, one of the same has to wait.
        await nodes[2].heard.next_message(Measure)
        await nodes[1].heard.next_message(Welcome)
        assert nodes[1].heard.messages.empty()
        nodes[0].control.send(answer(order))
        await nodes[1].heard.next_message(Measure)
        # The first one goes while the others measure; nobody waits for it.
        nodes[0].control.close()
        nodes[1].control.send(answer(order))
        nodes[2].control.send(answer(order))
        await wait_until(
            lambda: [m.measured for m in fleet_of(gateway).members] == [answer(order)] * 2
        )


async def test_who_takes_too_long_or_leaves_loses_its_turn(
    open_ring_gateway: OpenGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "LEASE_S", 0.2)
    async with open_ring_gateway(plan="auto", nodes=3) as gateway, AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(open_hand_node()) for _ in range(3)]
        order = await asked(nodes[0], gateway)
        for place in (1, 2):
            await nodes[place].join(gateway.join_files[place])
        await nodes[1].heard.next_message(Measure)
        nodes[1].control.close()
        await nodes[2].heard.next_message(Measure)
        nodes[2].control.send(answer(order))
        # The one that was late measured beside another.
        nodes[0].control.send(answer(order))
        members = fleet_of(gateway).members
        await wait_until(
            lambda: all(m.measured for m in members if m.link.peer != nodes[1].identity.node_id)
        )
        by_node = {m.link.peer: m.measured for m in members}
        assert by_node[nodes[0].identity.node_id] == answer(order, busy=True)
        assert by_node[nodes[2].identity.node_id] == answer(order)


async def test_a_newcomer_beside_a_stage_that_serves_is_busy(
    open_ring_gateway: OpenGateway, hand_node: HandNode, tmp_path: Path
) -> None:
    async with open_ring_gateway(plan="auto") as gateway, open_hand_node() as spare:
        order = await asked(hand_node, gateway)
        hand_node.control.send(answer(order))
        await hand_node.link_up()
        hand_node.ready()
        await wait_until(lambda: gateway.conductor.health().ready)
        async with open_hand_node() as elsewhere:
            assert await join_as_spare(gateway, spare, tmp_path) == replace(order, busy=True)
            spare.control.send(answer(order))
            await wait_until(
                lambda: [m.measured for m in fleet_of(gateway).spares] == [answer(order, busy=True)]
            )
            assert await join_as_spare(gateway, elsewhere, tmp_path, host_id="another") == order
        assert gateway.conductor.health().ready


async def test_nobody_is_asked_where_nobody_is_to_measure() -> None:
    nobody = Measuring(None)
    await nobody.wait_settled()
    nobody.close()
