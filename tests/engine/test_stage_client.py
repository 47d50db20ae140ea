"""A node's handle on a real stage process: answers, deaths, bounds."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from tests.support.cut_models import Rows, cut

from atoll.domain.errors import EngineFault
from atoll.domain.wire import F32
from atoll.engine import codec
from atoll.engine.devices import GPU, PROCESSOR, Device
from atoll.engine.parcel_messages import GivenIn, ParcelAnswer, PutIn, TakenOut, TakeOut
from atoll.engine.stage_client import StageProcess
from atoll.engine.stage_messages import Computed, Item, Loaded, StageOptions
from atoll.engine.stage_process import StageEngine
from atoll.engine.threads import SHARED_SPIN

pytestmark = pytest.mark.engine

WAIT_S = 60.0
MIB = 1024 * 1024


def options(shard: Path, *, context: int = 512, rows_max: int = 256) -> StageOptions:
    return StageOptions(
        path=str(shard),
        n_slots=4,
        context=context,
        rows_max=rows_max,
        threads=1,
        threads_large=1,
    )


class Stage:
    def __init__(self) -> None:
        self.answers: asyncio.Queue[tuple[Computed, bytes]] = asyncio.Queue()
        self.faults: asyncio.Queue[EngineFault] = asyncio.Queue()
        self.parcels: asyncio.Queue[tuple[ParcelAnswer, bytes]] = asyncio.Queue()
        self.process = StageProcess(
            lambda computed, payload: self.answers.put_nowait((computed, payload)),
            self.faults.put_nowait,
            lambda answer, parcel: self.parcels.put_nowait((answer, parcel)),
        )

    async def start(
        self,
        given: StageOptions,
        memory_bytes: int | None = None,
        gpu: Device | None = None,
    ) -> Loaded:
        async with asyncio.timeout(WAIT_S):
            return await self.process.start(
                given, memory_bytes=memory_bytes, spin=SHARED_SPIN, gpu=gpu
            )

    async def answer(self) -> tuple[Computed, bytes]:
        async with asyncio.timeout(WAIT_S):
            return await self.answers.get()

    async def parcel(self) -> tuple[ParcelAnswer, bytes]:
        async with asyncio.timeout(WAIT_S):
            return await self.parcels.get()

    async def fault(self) -> EngineFault:
        async with asyncio.timeout(WAIT_S):
            return await self.faults.get()


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    found = Stage()
    try:
        yield found
    finally:
        await found.process.close()
        assert found.faults.empty()
        if found.process.pid is not None:
            with pytest.raises(ProcessLookupError):
                os.kill(found.process.pid, 0)


def rows(n: int, n_embd: int, seed: int = 0) -> Rows:
    return np.random.default_rng(seed).standard_normal((n, n_embd)).astype(np.float32)


async def test_a_process_computes_what_the_engine_computes(small_shards: list[Path]) -> None:
    given = options(small_shards[1])
    items = (Item(2, 0, 40, True, F32), Item(0, 0, 3, True, F32))
    payloads = [codec.encode(rows(it.rows, 64, it.slot), F32) for it in items]
    expected, _, _ = StageEngine(given).compute(items, b"".join(payloads))
    async with stage() as found:
        loaded = await found.start(given)
        assert (loaded.n_embd, loaded.n_layers) == (64, 2)
        found.process.compute(17, items, payloads)
        computed, payload = await found.answer()
        assert (computed.batch, computed.problems) == (17, ("", ""))
        assert computed.sizes == tuple(len(p) for p in payloads)
        assert computed.engine_s > 0
        assert payload == b"".join(expected)


async def test_a_dropped_slot_starts_anew_behind_the_running_batch(
    small_shards: list[Path],
) -> None:
    item, window = Item(1, 0, 2, True, F32), codec.encode(rows(2, 64), F32)
    async with stage() as found:
        await found.start(options(small_shards[1]))
        found.process.compute(1, (item,), [window])
        found.process.drop(1)
        found.process.compute(2, (Item(1, 2, 2, True, F32),), [window])
        found.process.compute(3, (item,), [window])
        first, second, third = [await found.answer() for _ in range(3)]
        assert second[0].problems == ("slot 1 holds 0 positions, not 2",)
        assert first[1] == third[1] != b""


async def test_a_parcel_is_taken_back_by_the_process_that_made_it_alone(
    small_shards: list[Path],
) -> None:
    given, label = options(small_shards[1]), b"a label"
    first, after = (codec.encode(rows(n, 64, n), F32) for n in (9, 2))
    async with stage() as found, stage() as other:
        for one in (found, other):
            await one.start(given)
            one.process.compute(1, (Item(1, 0, 9, True, F32),), [first])
            one.process.compute(2, (Item(1, 9, 2, True, F32),), [after])
            await one.answer()
        expected = (await found.answer())[1]
        found.process.order_parcel(TakeOut(1, 5, 9, label))
        answer, parcel = await found.parcel()
        assert answer == TakenOut(5)
        other.process.order_parcel(PutIn(2, 5, 9, label), parcel)
        refused, _ = await other.parcel()
        assert isinstance(refused, GivenIn)
        assert "changed" in refused.problem
        # Back in another slot, where the same bits come of it.
        found.process.order_parcel(PutIn(2, 5, 9, label), parcel)
        found.process.compute(3, (Item(2, 9, 2, True, F32),), [after])
        assert await found.parcel() == (GivenIn(5), b"")
        assert (await found.answer())[1] == expected != b""


async def test_one_windows_nan_is_its_own_problem(small_shards: list[Path]) -> None:
    good = rows(2, 64)
    poisoned = good.copy()
    poisoned[1, 3] = np.nan
    items = (Item(0, 0, 2, True, F32), Item(1, 0, 2, True, F32))
    async with stage() as found:
        await found.start(options(small_shards[1]))
        found.process.compute(1, items, [good.tobytes()] * 2)
        right = (await found.answer())[1][-good.nbytes :]
        found.process.compute(2, items, [poisoned.tobytes(), good.tobytes()])
        computed, payload = await found.answer()
        assert computed.problems == ("the window holds NaN or infinity", "")
        assert computed.sizes == (0, good.nbytes)
        assert payload == right


async def test_windows_larger_than_the_sockets_go_through(
    random_model: Callable[..., Path], tmp_path: Path
) -> None:
    """Four prefill windows in one batch, 16 MB each way."""
    wide = cut(random_model("llama", n_layers=2, n_embd=1024), [0, 1], tmp_path)[0]
    async with stage() as found:
        await found.start(options(wide, context=1024, rows_max=1024))
        window = codec.encode(rows(1024, 1024), F32)
        items = tuple(Item(slot, 0, 1024, False, F32) for slot in range(4))
        found.process.compute(1, items, [window] * 4)
        computed, payload = await found.answer()
        assert computed.problems == ("",) * 4
        assert len(payload) == 4 * len(window) == 1 << 24
        assert payload[: len(window)] == payload[len(window) : 2 * len(window)]


async def test_closing_amid_a_batch_is_quiet(
    small_shards: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    item = Item(0, 0, 200, False, F32)
    async with stage() as found:
        await found.start(options(small_shards[1]))
        for _ in range(20):
            found.process.compute(1, (item,), [codec.encode(rows(200, 64), F32)])
    assert "Traceback" not in caplog.text


async def test_a_killed_process_is_reported_once(small_shards: list[Path]) -> None:
    async with stage() as found:
        await found.start(options(small_shards[1]))
        assert found.process.pid is not None
        os.kill(found.process.pid, signal.SIGKILL)
        fault = await found.fault()
        assert "stage process was killed by signal 9" in fault.problem
        found.process.compute(1, (Item(0, 0, 1, True, F32),), [bytes(256)])
        found.process.drop(0)


async def test_an_impossible_batch_ends_the_process_with_a_report(
    small_shards: list[Path],
) -> None:
    """A bug of ours, not of a neighbour: the node checks windows before. Never an abort."""
    async with stage() as found:
        await found.start(options(small_shards[1]))
        found.process.compute(1, (Item(77, 0, 1, True, F32),), [bytes(256)])
        assert (await found.fault()).problem == "stage process ended with exit code 1"


@pytest.mark.parametrize("what", ["cut short", "no GGUF", "absent", "hostile header"])
async def test_shards_that_cannot_be_loaded_fail_the_start(
    small_shards: list[Path], tmp_path: Path, what: str
) -> None:
    data = small_shards[1].read_bytes()
    path = tmp_path / "shard.gguf"
    if what == "cut short":
        path.write_bytes(data[: len(data) - 5000])
    elif what == "no GGUF":
        path.write_bytes(b"#!/bin/sh\n" * 400)
    elif what == "hostile header":
        path.write_bytes(data[:8] + b"\xff" * 16 + data[24:])
    async with stage() as found:
        with pytest.raises(EngineFault, match=r"shard\.gguf") as caught:
            await found.start(options(path))
        assert caught.value.hint


async def test_the_processor_computes_unless_a_gpu_is_given(small_shards: list[Path]) -> None:
    async with stage() as found:
        assert (await found.start(options(small_shards[1]))).device == PROCESSOR


async def test_a_gpu_takes_the_shard_and_no_bound_on_memory(small_shards: list[Path]) -> None:
    """There is none here: the process lives beyond the bound, and finds no such device."""
    gpu = Device("CUDA99", "", GPU, 1 << 40, 1 << 40)
    async with stage() as found:
        with pytest.raises(EngineFault, match="does not find the device CUDA99"):
            await found.start(options(small_shards[1]), 64 * MIB, gpu)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux bounds memory")
@pytest.mark.parametrize(
    ("memory_bytes", "words"),
    [(64 * MIB, "stage process ended"), (700 * MIB, "no room for 4 slots of 32768 cells")],
)
async def test_too_little_memory_fails_the_start_in_words(
    demo_thirds: list[Path], memory_bytes: int, words: str
) -> None:
    """Too little even for Python, and too little for 1.5 GB of caches."""
    async with stage() as found:
        with pytest.raises(EngineFault, match=words):
            await found.start(options(demo_thirds[1], context=32_768), memory_bytes)


async def test_several_processes_live_side_by_side(small_shards: list[Path]) -> None:
    window = codec.encode(rows(3, 64), F32)
    async with stage() as one, stage() as other:
        await one.start(options(small_shards[0]))
        await other.start(options(small_shards[1]))
        for found in (one, other):
            found.process.compute(1, (Item(0, 0, 3, True, F32),), [window])
        assert (await one.answer())[1] != (await other.answer())[1]
        await one.process.close()
        other.process.compute(2, (Item(0, 0, 3, True, F32),), [window])
        assert (await other.answer())[0].batch == 2
