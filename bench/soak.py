"""Soak: the ring's machines under many more simulated fates than the tests try.

    python -m bench.soak [--first SEED] [--seeds COUNT]

Every seed is one run of each simulation. A run that breaks an invariant is
printed with the seed that replays it, and the rest goes on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from atoll.sim.draft_sim import run_draft_seed
from atoll.sim.ring_sim import SimFailure, run_seed

SEEDS = 20_000
SAY_EVERY = 1_000
SIMULATIONS: tuple[Callable[[int], object], ...] = (run_seed, run_draft_seed)


def soak(first: int, count: int, say: Callable[[str], None]) -> list[SimFailure]:
    """Run seeds [first, first + count) through every simulation.

    Returns:
        The failures, in order; empty when every invariant held.
    """
    failures: list[SimFailure] = []
    for done, seed in enumerate(range(first, first + count), start=1):
        for simulate in SIMULATIONS:
            try:
                simulate(seed)
            except SimFailure as failure:
                failures.append(failure)
                say(f"{simulate.__name__}: {failure}")
        if done % SAY_EVERY == 0 or done == count:
            say(f"{done} of {count} seeds, {len(failures)} failures")
    return failures


def main() -> int:
    """Parse the command line and soak; the exit code says whether all held."""
    parser = argparse.ArgumentParser(description="Simulate the ring under many seeds.")
    parser.add_argument("--first", type=int, default=1_000_000, help="first seed")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many seeds")
    asked = parser.parse_args()
    return 1 if soak(asked.first, asked.seeds, print) else 0


if __name__ == "__main__":
    sys.exit(main())
