"""Clocks and chance of a simulated process."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import secrets
import time

import psutil

from atoll.world.governed import BEGIN_S, governed
from atoll.world.loop import SimLoop
from atoll.world.machine import Machine


def drawn(seed: int) -> tuple[object, ...]:
    loop = SimLoop()
    with governed(loop, random.Random(seed), quiet=True):
        found = (secrets.randbits(62), secrets.token_bytes(8), secrets.token_hex(4), os.urandom(3))
    loop.close()
    return found


def test_chance_is_the_seeds() -> None:
    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_clocks_are_the_loops_and_a_machines_may_be_wrong() -> None:
    loop = SimLoop()
    machine = Machine("one", "10.0.0.1")
    machine.clock_offset_s = -50.0
    seen: list[tuple[float, float, float]] = []

    async def look() -> None:
        await asyncio.sleep(20)
        seen.append((time.monotonic(), time.perf_counter(), time.time() - BEGIN_S))

    async def work() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(look())
            tasks.create_task(look(), context=machine.context)

    with governed(loop, random.Random(1), quiet=True):
        loop.run_until_complete(work())
        assert not logging.getLogger("atoll").isEnabledFor(logging.ERROR)
        assert psutil.virtual_memory().available == 64 * 1024**3
    loop.close()
    assert seen == [(20.0, 20.0, 20.0), (20.0, 20.0, -30.0)]


def test_it_is_as_before_behind_the_block() -> None:
    before = (time.monotonic, secrets.randbits, psutil.Process)
    drawn(1)
    assert (time.monotonic, secrets.randbits, psutil.Process) == before
    assert logging.getLogger("atoll").isEnabledFor(logging.ERROR)
