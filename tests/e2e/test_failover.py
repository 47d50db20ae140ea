"""Streams that lose a part of their ring go on: not a token lost, repeated or changed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.support.rings import GREEDY, Ring, open_ring, wait_until

from atoll.domain.generation import GenerateRequest
from atoll.gateway.options import RingOptions
from atoll.members.register import REGISTER_FILE, Register
from atoll.store.layout import FoundModel, Store

pytestmark = [
    pytest.mark.engine,
    pytest.mark.network,
    pytest.mark.usefixtures("own_children"),
]

N_TOKENS = 40
LONG = 140
PROMPTS = ((504, 260, 216, 41), (1000, 2000, 3000), (198,), (28120, 905))
Prompts = Sequence[tuple[int, ...]]
SHAPE = RingOptions(nodes=2, streams=4, context=256, rows_max=64, chunk_rows=64, spin=1000)


class Reader:
    """Reads one exact answer straight from the ring."""

    def __init__(self, ring: Ring, prompt: tuple[int, ...], n_tokens: int = N_TOKENS) -> None:
        self._ring = ring
        self._request = GenerateRequest(prompt, n_tokens, GREEDY, exact=True, ignore_eos=True)
        self.tokens: list[int] = []

    async def read(self) -> tuple[int, ...]:
        async for sampled in self._ring.gateway.conductor.generate(self._request):
            self.tokens.append(sampled.token)
        return tuple(self.tokens)


async def answers(
    ring: Ring, disturb: int, how: signal.Signals, prompts: Prompts = PROMPTS
) -> list[tuple[int, ...]]:
    """All answers, read while process `disturb` gets a signal in the midst of them."""
    readers = [Reader(ring, prompt) for prompt in prompts]
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        reading = [tasks.create_task(reader.read()) for reader in readers]
        await wait_until(lambda: all(len(r.tokens) > 5 for r in readers), what="tokens")
        os.kill(disturb, how)
    return [task.result() for task in reading]


async def undisturbed(ring: Ring, prompts: Prompts = PROMPTS) -> list[tuple[int, ...]]:
    return [await ring.tokens(prompt, N_TOKENS) for prompt in prompts]


async def test_streams_go_on_when_a_stage_process_or_a_node_is_killed(
    demo: FoundModel, test_store: Store, tmp_path: Path
) -> None:
    async with open_ring(demo, test_store, tmp_path, SHAPE) as ring:
        expected = await undisturbed(ring)
        assert await answers(ring, ring.nodes[1].stage_pid(), signal.SIGKILL) == expected
        # Without a spare the one that is left takes all layers.
        assert await answers(ring, ring.nodes[0].pid, signal.SIGKILL) == expected
        assert len(ring.status.rings[0].stages) == 1


@pytest.mark.long
async def test_a_node_that_stands_by_takes_the_part_of_a_lost_one(
    demo: FoundModel, test_store: Store, tmp_path: Path
) -> None:
    async with open_ring(demo, test_store, tmp_path, SHAPE) as ring:
        ticket = tmp_path / "spare.join"
        ring.invite().write(ticket)
        await ring.add_node(ticket)
        parts = {(stage.first, stage.last) for stage in ring.status.rings[0].stages}
        members = ring.gateway.conductor._fleet
        await wait_until(
            lambda: any(member.stands_by == parts for member in members.everybody),
            timeout_s=30,
            what="a node that stands by",
        )
        expected = await undisturbed(ring)
        kept = ring.nodes[1].stage_pid()
        assert await answers(ring, ring.nodes[0].pid, signal.SIGKILL) == expected
        assert [stage.name for stage in ring.status.rings[0].stages] == ["node-3", "node-2"]
        # The other stage went on in its own process, with what it held.
        assert ring.nodes[1].stage_pid() == kept


async def test_exact_answers_hold_where_rows_computed_together_have_other_bits(
    small: FoundModel, tmp_path: Path
) -> None:
    """The weights are 32-bit floats, whose products depend on what else is in a call."""
    prompts = [tuple(range(3 + i, 40 + 9 * i)) for i in range(4)]
    async with open_ring(small, Store(tmp_path / "store"), tmp_path, SHAPE) as ring:
        expected = await undisturbed(ring, prompts)
        stages = ring.status.rings[0].stages
        assert all(stage.row_by_row for stage in stages)
        assert ring.status.rings[0].ends_row_by_row
        assert len({stage.bits for stage in stages}) == 2
        assert await answers(ring, ring.nodes[1].stage_pid(), signal.SIGKILL, prompts) == expected
        assert ring.status.rings[0].exact_problem == ""


async def test_streams_of_a_node_that_is_drained_go_on_on_another(
    demo: FoundModel, test_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atoll.gateway.ring.WIND_DOWN_S", 0.2)
    async with open_ring(demo, test_store, tmp_path, SHAPE) as ring:
        expected = await ring.tokens(PROMPTS[0], LONG)
        ticket = tmp_path / "spare.join"
        ring.invite().write(ticket)
        await ring.add_node(ticket)
        await wait_until(lambda: "joined as a spare" in "\n".join(ring.said))
        reader = Reader(ring, PROMPTS[0], LONG)
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(reader.read())
            await wait_until(lambda: len(reader.tokens) > 5, what="tokens")
            register = Register(tmp_path / "gateway" / REGISTER_FILE)
            register.rest("node-1", resting=True)
            await wait_until(lambda: names(ring) == {"node-2", "node-3"}, timeout_s=30)
            # It was under way when its ring went.
            assert len(reader.tokens) < LONG
        assert reading.result() == expected


def names(ring: Ring) -> set[str]:
    [only] = ring.status.rings
    return {stage.name for stage in only.stages} if only.ready else set()
