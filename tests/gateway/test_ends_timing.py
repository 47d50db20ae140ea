"""The gateway's own part of a step, timed in a real ends process."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from tests.conftest import MakeModel

from atoll.domain.generation import GenerateRequest
from atoll.domain.measure import WindowTime
from atoll.domain.wire import F32
from atoll.engine.ends_messages import Head, ItemsDone
from atoll.gateway import ends_timing
from atoll.gateway.ends_keeper import EndsKeeper
from atoll.gateway.ends_timing import EndsTiming
from atoll.gateway.options import RingOptions
from atoll.gateway.prepare import ends_options, prepare
from atoll.store.layout import Store

pytestmark = pytest.mark.engine
OPTIONS = RingOptions(
    nodes=1, streams=2, context=64, rows_max=16, chunk_rows=16, spin=1000, plan="auto"
)


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ends_timing, "BUDGET_S", 0.1)


@asynccontextmanager
async def kept(
    path: Path,
    folder: Path,
    options: RingOptions,
    done: asyncio.Queue[ItemsDone],
    *,
    timed: bool = True,
) -> AsyncIterator[EndsKeeper]:
    store = Store(folder)
    model = store.resolve(str(path))
    prepared = prepare(model, store, options)
    keeper = EndsKeeper(
        ends_options(model, prepared, options),
        options,
        timed=timed,
        done=lambda message, _payload: done.put_nowait(message),
        gone=lambda _fault: None,
    )
    try:
        async with asyncio.timeout(30):
            yield keeper
    finally:
        await keeper.close()
        prepared.release()


@pytest.mark.parametrize(
    ("context", "rows_max", "sizes"),
    [(64, 16, [1, 4, 16]), (16, 16, [1, 4, 16]), (8, 16, [1, 4]), (64, 4, [1, 4])],
)
async def test_windows_of_all_sizes_and_then_it_serves(
    random_model: MakeModel, tmp_path: Path, context: int, rows_max: int, sizes: list[int]
) -> None:
    done: asyncio.Queue[ItemsDone] = asyncio.Queue()
    ring = replace(OPTIONS, context=context, rows_max=rows_max, chunk_rows=rows_max)
    async with kept(random_model(), tmp_path, ring, done) as keeper:
        process = await keeper.ready()
        assert [time.rows for time in keeper.window_s] == sizes
        assert all(0 < time.seconds < 5 for time in keeper.window_s)
        assert all(a.seconds <= b.seconds for a, b in pairwise(keeper.window_s))
        # Nobody but the timing has heard of its calls, and its slot is free again.
        assert done.empty()
        process.open(0, GenerateRequest((3,), 1))
        process.run((Head(0, 0, True, F32, (3, 4)),), [])
        assert (await done.get()).results[0].problem == ""


async def test_it_is_timed_once_and_not_where_nobody_is(
    random_model: MakeModel, tmp_path: Path
) -> None:
    done: asyncio.Queue[ItemsDone] = asyncio.Queue()
    async with kept(random_model(), tmp_path, OPTIONS, done) as keeper:
        await keeper.ready()
        first = keeper.window_s
        keeper.replace()
        await keeper.ready()
        assert keeper.window_s is first
    async with kept(random_model(), tmp_path, OPTIONS, done, timed=False) as keeper:
        await keeper.ready()
        assert keeper.window_s == ()


async def test_a_process_that_dies_meanwhile_is_replaced(
    random_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ends_timing, "BUDGET_S", 1e6)
    monkeypatch.setattr(ends_timing, "SAMPLES_MAX", 1 << 30)
    began = asyncio.Event()
    run = EndsTiming.run

    async def run_and_tell(timing: EndsTiming) -> tuple[WindowTime, ...]:
        began.set()
        return await run(timing)

    monkeypatch.setattr(EndsTiming, "run", run_and_tell)
    done: asyncio.Queue[ItemsDone] = asyncio.Queue()
    async with kept(random_model(), tmp_path, OPTIONS, done) as keeper:
        async with asyncio.TaskGroup() as tasks:
            starting = tasks.create_task(keeper.ready())
            await began.wait()
            first = keeper.pid
            assert first is not None
            os.kill(first, signal.SIGKILL)
        assert starting.result().pid != first
        assert keeper.window_s == ()


async def test_one_that_is_too_slow_is_replaced_and_serves_untimed(
    random_model: MakeModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What it still computes must not be taken for an answer to somebody else."""
    monkeypatch.setattr(ends_timing, "CALL_S", 0.0)
    done: asyncio.Queue[ItemsDone] = asyncio.Queue()
    async with kept(random_model(), tmp_path, OPTIONS, done) as keeper:
        process = await keeper.ready()
        assert keeper.window_s == ()
        assert "ends.not_measured" in caplog.text
        process.open(0, GenerateRequest((3,), 1))
        asked = process.run((Head(0, 0, True, F32, (3, 4)),), [])
        assert (await done.get()).batch == asked
        assert done.empty()
