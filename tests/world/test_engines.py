"""Engine processes over the model of hashes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

import pytest

from atoll.domain.errors import EngineFault
from atoll.domain.generation import GenerateRequest
from atoll.domain.ids import Slot
from atoll.domain.wire import ENCODINGS, F32, row_bytes
from atoll.engine.ends_messages import EndsOptions, Head, ItemsDone, Tail
from atoll.engine.parcel_messages import GivenIn, ParcelAnswer, PutIn, TakenOut, TakeOut
from atoll.engine.stage_messages import Computed, Item, StageOptions
from atoll.sim.fake_model import FakeShard, ModelMisuse, embed, expected_output
from atoll.world.engines import Pace, Process, SimEnds, SimStage, narrowed, widened
from atoll.world.loop import SimLoop
from atoll.world.machine import Machine

N_EMBD = 8
PACE = Pace(0.5, 0.01, 0.001)
STAGE = StageOptions("1-3", 4, 64, 16, 1, 1)
ENDS = EndsOptions("model", "head", "tail", 4, 64, 16, 1, 1)


class Bench:
    """A machine with processes on it, and what they answered."""

    def __init__(self) -> None:
        self.loop = SimLoop()
        self.machine = Machine("one", "10.0.0.1")
        self.computed: list[tuple[Computed, bytes]] = []
        self.done: list[tuple[ItemsDone, bytes]] = []
        self.parcels: list[tuple[ParcelAnswer, bytes]] = []
        self.faults: list[EngineFault] = []

    def process(self) -> Process:
        return Process(self.machine, random.Random(1), PACE, self.faults.append)

    def stage(self) -> SimStage:
        return SimStage(
            self.process(),
            FakeShard(0, 0),
            N_EMBD,
            on_computed=lambda message, data: self.computed.append((message, data)),
            on_parcel=lambda message, data: self.parcels.append((message, data)),
        )

    def ends(self) -> SimEnds:
        return SimEnds(
            self.process(),
            (1, 3, 4),
            (N_EMBD, 40),
            on_done=lambda message, data: self.done.append((message, data)),
            on_parcel=lambda message, data: self.parcels.append((message, data)),
        )

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        self.loop.run_until_complete(work)
        self.loop.close()


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
def test_rows_have_the_length_that_real_ones_would_have(encoding: str) -> None:
    rows = [embed(1), 0, 2**64 - 1]
    payload = widened(rows, encoding, N_EMBD)
    assert len(payload) == 3 * row_bytes(encoding, N_EMBD)
    assert narrowed(payload, 3, encoding, N_EMBD) == rows
    with pytest.raises(ModelMisuse):
        narrowed(payload, 2, encoding, N_EMBD)


def test_a_token_goes_round(bench: Bench) -> None:
    request = GenerateRequest((5, 6, 7), 1, ignore_eos=True)

    async def work() -> None:
        stage, ends = bench.stage(), bench.ends()
        await stage.start(STAGE, memory_bytes=None, spin=None)
        loaded = await ends.start(ENDS, memory_bytes=None, spin=None)
        assert (loaded.n_embd, loaded.n_vocab) == (N_EMBD, 40)
        ends.open(0, request)
        ends.run((Head(0, 0, False, F32, request.prompt),), [])
        await asyncio.sleep(1)
        stage.compute(1, (Item(0, 0, 3, False, F32),), [bench.done[0][1]])
        await asyncio.sleep(1)
        tail = Tail(0, 0, False, F32, 3, sample=True, chain=False, last=True)
        ends.run((tail,), [bench.computed[0][1]])
        await asyncio.sleep(1)
        sampled = bench.done[1][0].results[0].sampled
        assert sampled == expected_output(request, 4, 64)[0]

    bench.run(work())


def test_a_parcel_goes_back_where_it_came_from_and_nowhere_else(bench: Bench) -> None:
    async def work() -> None:
        stage = bench.stage()
        await stage.start(STAGE, memory_bytes=None, spin=None)
        rows = [embed(t) for t in (1, 2)]
        item, alone = Item(0, 0, 2, False, F32), FakeShard(1, 3)
        stage.compute(1, (item,), [widened(rows, F32, N_EMBD)])
        alone.run(Slot(0), 0, rows)
        stage.order_parcel(TakeOut(0, 9, 2, b"label"))
        await asyncio.sleep(1)
        answer, parcel = bench.parcels.pop()
        assert answer == TakenOut(9)
        stage.order_parcel(PutIn(3, 9, 2, b"other"), parcel)
        stage.order_parcel(PutIn(2, 9, 2, b"label"), parcel)
        stage.compute(2, (Item(2, 2, 1, False, F32),), [widened([embed(3)], F32, N_EMBD)])
        await asyncio.sleep(1)
        assert [a.problem != "" for a, _ in bench.parcels if isinstance(a, GivenIn)] == [
            True,
            False,
        ]
        due = alone.run(Slot(0), 2, [embed(3)])
        assert narrowed(bench.computed[1][1], 1, F32, N_EMBD) == due

    bench.run(work())


def test_a_process_that_is_killed_says_no_more(bench: Bench) -> None:
    async def work() -> None:
        stage = bench.stage()
        await stage.start(STAGE, memory_bytes=None, spin=None)
        stage.compute(1, (Item(0, 0, 1, False, F32),), [widened([embed(1)], F32, N_EMBD)])
        assert bench.machine.kill_engines("was killed") == 1
        await asyncio.sleep(1)
        assert [fault.problem for fault in bench.faults] == ["stage process was killed"]
        assert bench.computed == []
        loading = bench.ends()
        bench.loop.call_later(0.1, bench.machine.kill_engines, "was killed")
        with pytest.raises(EngineFault, match="ends process was killed"):
            await loading.start(ENDS, memory_bytes=None, spin=None)

    bench.run(work())


def test_a_process_that_is_closed_is_no_fault(bench: Bench) -> None:
    async def work() -> None:
        stage = bench.stage()
        await stage.start(STAGE, memory_bytes=None, spin=None)
        await stage.close()
        assert bench.machine.kill_engines("was killed") == 0
        await asyncio.sleep(1)
        assert bench.faults == []

    bench.run(work())
