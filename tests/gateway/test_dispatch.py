"""Whether a request may come, held against a real gateway's rings."""

from __future__ import annotations

import asyncio

import pytest
from tests.support.hand_node import Asked, HandNode
from tests.support.rings import wait_until
from tests.support.small_gateway import OpenGateway

from atoll.api.backend import Demand
from atoll.domain.errors import DeadlineExceeded, Overloaded
from atoll.domain.generation import GenerateRequest
from atoll.gateway.serve import Gateway

pytestmark = [pytest.mark.engine, pytest.mark.network]


def demand(tokens: int = 4, deadline_s: float | None = None, group: str = "") -> Demand:
    request = GenerateRequest((5, 6), tokens, ignore_eos=True, group=group)
    return Demand(group, deadline_s=deadline_s, requests=(request,))


async def test_without_a_ring_nothing_is_objected_to(ring_gateway: Gateway) -> None:
    ring_gateway.conductor.check(demand(deadline_s=0.001))


async def test_what_was_seen_is_held_against_the_deadline(
    ring_gateway: Gateway, hand_node: HandNode
) -> None:
    conductor = ring_gateway.conductor
    await hand_node.form(ring_gateway.join_files[0])
    await wait_until(lambda: conductor.health().ready)
    # No token has gone round: nobody knows.
    conductor.check(demand(100, deadline_s=1e-6))
    asked = Asked()
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(hand_node.serve())
        await asked.run(ring_gateway, 8)
        with pytest.raises(Overloaded) as caught:
            conductor.check(demand(100, deadline_s=1e-6))
        conductor.check(demand(100, deadline_s=1e6))
        serving.cancel()
    assert asked.error is None
    assert caught.value.retry_after_s >= 1


async def test_a_full_line_is_known_beforehand(
    open_ring_gateway: OpenGateway, hand_node: HandNode
) -> None:
    async with open_ring_gateway(streams=1, waiting=1) as gateway:
        conductor = gateway.conductor
        await hand_node.form(gateway.join_files[0])
        await wait_until(lambda: conductor.health().ready)
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(Asked().run(gateway, 3)) for _ in range(2)]
            await wait_until(lambda: gateway.status().waiting == 1)
            with pytest.raises(Overloaded):
                conductor.check(demand())
            with pytest.raises(Overloaded):
                conductor.check(Demand("another"))
            # A higher priority takes the place of whoever waits.
            conductor.check(Demand("another", priority=1))
            for task in running:
                task.cancel()
        conductor.check(demand())


async def test_a_deadline_ends_a_generation_that_gets_no_answer(
    ring_gateway: Gateway, hand_node: HandNode
) -> None:
    conductor = ring_gateway.conductor
    await hand_node.form(ring_gateway.join_files[0])
    await wait_until(lambda: conductor.health().ready)
    tokens = conductor.generate(GenerateRequest((5, 6), 3, deadline_s=0.1))
    with pytest.raises(DeadlineExceeded):
        await anext(tokens)
    assert ring_gateway.status().waiting == 0
