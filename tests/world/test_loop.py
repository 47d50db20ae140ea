"""The loop of virtual time."""

from __future__ import annotations

import asyncio
import time

import pytest

from atoll.sim.traffic import BrokenInvariant
from atoll.world.loop import SimLoop


def test_time_jumps_to_what_is_due() -> None:
    loop = SimLoop()
    seen: list[float] = []

    async def work() -> None:
        for _ in range(3):
            await asyncio.sleep(1000.0)
            seen.append(loop.time())

    began_s = time.process_time()
    loop.run_until_complete(work())
    loop.close()
    assert seen == [1000.0, 2000.0, 3000.0]
    assert time.process_time() - began_s < 1000


def test_who_waits_for_nothing_is_found_out() -> None:
    loop = SimLoop()
    with pytest.raises(BrokenInvariant, match="never happens"):
        loop.run_until_complete(asyncio.Event().wait())
    loop.close()


def test_a_run_without_end_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atoll.world.loop.TURNS_MAX", 100)
    loop = SimLoop()

    async def work() -> None:
        while True:
            await asyncio.sleep(0.1)

    with pytest.raises(BrokenInvariant, match="does not settle"):
        loop.run_until_complete(work())
    loop.close()


def test_work_for_threads_is_done_in_the_loop() -> None:
    loop = SimLoop()

    def fails() -> int:
        raise OSError("no room")

    async def work() -> int:
        with pytest.raises(OSError, match="no room"):
            await asyncio.to_thread(fails)
        return await asyncio.to_thread(lambda: 7)

    assert loop.run_until_complete(work()) == 7
    loop.close()


def test_what_nobody_catches_is_noted_and_timers_are_told() -> None:
    loop = SimLoop()

    async def work() -> None:
        loop.call_soon(lambda: 1 // 0)
        loop.call_later(5.0, print)
        loop.call_later(6.0, print).cancel()
        await asyncio.sleep(1)
        assert len(loop.timers()) == 1

    loop.run_until_complete(work())
    loop.close()
    assert "ZeroDivisionError" in loop.problems[0]


def test_tasks_are_numbered() -> None:
    loop = SimLoop()

    async def work() -> list[int]:
        async with asyncio.TaskGroup() as tasks:
            made = [tasks.create_task(asyncio.sleep(0)) for _ in range(3)]
        return [hash(task) for task in made]

    first, second, third = loop.run_until_complete(work())
    loop.close()
    assert (second - first, third - second) == (1, 1)
