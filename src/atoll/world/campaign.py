"""A campaign: many seeds over some processes, and what came of all of them.

Each seed is one run, of the ring's machines alone or of the whole system; a failing one
can be run again, alone, and comes out the same.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from atoll.domain.errors import AtollError
from atoll.world.fates import Outcome
from atoll.world.worker import Batch

LINE_BYTES_MAX = 16 * 1024 * 1024
HASH_SEED = "0"
"""Of the processes: with another one, sets of strings would have another order."""


@dataclass(slots=True)
class Tally:
    """What came of a campaign so far; seconds are of processors."""

    seeds: int = 0
    events: int = 0
    cpu_s: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    broken: list[Outcome] = field(default_factory=list)

    @property
    def seeds_per_minute(self) -> float:
        """Seeds that one core runs in a minute."""
        return 60 * self.seeds / self.cpu_s if self.cpu_s else 0.0

    def add(self, batch: Batch) -> None:
        """Count what a process told."""
        self.seeds += batch.seeds
        self.events += batch.events
        self.cpu_s += batch.cpu_s
        self.kinds.update(batch.kinds)
        self.faults.update(batch.faults)
        self.broken += batch.broken


async def run_campaign(
    first: int, count: int, *, workers: int, heard: Callable[[Tally, Batch], None]
) -> Tally:
    """Run seeds [first, first + count).

    Args:
        first: The first seed.
        count: How many.
        workers: Processes that run them beside each other.
        heard: Told what has come of all, and of the last ones.

    Raises:
        AtollError: A process ended before its seeds had.
    """
    tally = Tally()
    workers = max(1, min(workers, count))
    try:
        async with asyncio.TaskGroup() as tasks:
            for at in range(workers):
                share = len(range(at, count, workers))
                work = _run_worker(tally, heard, first + at, share, workers)
                tasks.create_task(work, name=f"worker-{at}")
    except* AtollError as group:
        raise group.exceptions[0] from None
    tally.broken.sort(key=lambda outcome: outcome.seed)
    return tally


async def _run_worker(
    tally: Tally, heard: Callable[[Tally, Batch], None], first: int, count: int, step: int
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "atoll.world.worker", str(first), str(count), str(step)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        limit=LINE_BYTES_MAX,
        env={**os.environ, "PYTHONHASHSEED": HASH_SEED},
    )
    assert process.stdout is not None
    done = 0
    try:
        async for line in process.stdout:
            batch = msgspec.json.decode(line, type=Batch)
            done += batch.seeds
            tally.add(batch)
            heard(tally, batch)
        code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if code or done < count:
        raise AtollError(
            f"a process of the simulation ended with exit code {code}, {done} of {count} seeds on",
            hint="what it wrote on standard error says why",
        )
