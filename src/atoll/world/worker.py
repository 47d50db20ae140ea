"""One process of a campaign: it runs its seeds and tells what came of them, a line at a time."""

from __future__ import annotations

import gc
import sys
import time

import msgspec

from atoll.world.fates import Kind, Outcome, run_fate

TELL_S = 2.0
"""How often sums are told."""


class Batch(msgspec.Struct):
    """What came of some seeds, summed; `cpu_s` is what they took of the processor."""

    seeds: int = 0
    events: int = 0
    cpu_s: float = 0.0
    kinds: dict[Kind, int] = {}
    faults: dict[str, int] = {}
    broken: list[Outcome] = []

    def add(self, outcome: Outcome) -> None:
        """Count one more."""
        self.seeds += 1
        self.events += outcome.events
        self.kinds[outcome.kind] = self.kinds.get(outcome.kind, 0) + 1
        for fault, count in outcome.faults.items():
            self.faults[fault] = self.faults.get(fault, 0) + count
        if outcome.problem:
            self.broken.append(outcome)


def work(first: int, count: int, step: int) -> None:
    """Run `count` seeds from `first` on, each `step` after the one before."""
    # Of what a run leaves behind nothing is to be found in the midst of another.
    gc.disable()
    batch, began_s, told_s = Batch(), time.process_time(), time.monotonic()
    for done in range(count):
        batch.add(run_fate(first + done * step))
        gc.collect(0)
        if time.monotonic() - told_s >= TELL_S or done == count - 1:
            now_s = time.process_time()
            batch.cpu_s, began_s = now_s - began_s, now_s
            sys.stdout.buffer.write(msgspec.json.encode(batch) + b"\n")
            sys.stdout.buffer.flush()
            batch, told_s = Batch(), time.monotonic()
            gc.collect()


def main(argv: list[str]) -> None:
    """Run as `python -m atoll.world.worker FIRST COUNT STEP`."""
    first, count, step = map(int, argv)
    work(first, count, step)


if __name__ == "__main__":
    main(sys.argv[1:])
