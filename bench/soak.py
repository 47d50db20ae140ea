"""Soak: many more simulated fates, requests and bytes than the tests try.

    python -m bench.soak [--first SEED] [--seeds COUNT] [--inputs COUNT] [--cases COUNT]
                         [--kills COUNT]

Every seed is one run of each simulation. A run that breaks an invariant is
printed with the seed that replays it, and the rest goes on. Then come made bytes
for all that reads bytes of strangers (`fuzz`), made requests to a real gateway
(`api_fuzz`), and parts of real rings that die under streams (`failover`). A count of 0
leaves a part out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from atoll.sim.draft_sim import run_draft_seed
from atoll.sim.ring_sim import SimFailure, run_seed
from bench import api_fuzz, failover, fuzz

SEEDS = 20_000
INPUTS = 2_000_000
CASES = 20_000
KILLS = 200
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


def soak_readers(inputs: int, seed: int, say: Callable[[str], None]) -> int:
    """Give readers so many inputs; the number of those that broke one."""
    found = fuzz.run(inputs, seed)
    say(f"{found['fuzz_inputs']} inputs, {found['fuzz_crashes']} crashes")
    return int(found["fuzz_crashes"])


def soak_api(cases: int, seed: int, say: Callable[[str], None]) -> int:
    """Send a gateway so many requests; the number of its faults."""
    found = api_fuzz.run(cases, seed)
    faults = int(found["api_faults"]) + int(found["logged_mistakes"])
    say(f"{found['api_cases']} requests, {faults} faults")
    return faults


def soak_rings(kills: int, say: Callable[[str], None]) -> int:
    """Break so many parts of a ring; the number of streams that were not as they should be."""
    found = failover.run(kills)
    streams = int(found["streams"])
    bad = streams - round(streams * float(min(found["exact_equal"], found["streams_ok"])))
    say(f"{found['kills']} kills under {streams} streams, {bad} of them ill")
    return bad


def main() -> int:
    """Parse the command line and soak; the exit code says whether all held."""
    parser = argparse.ArgumentParser(description="Try many fates, bytes and requests.")
    parser.add_argument("--first", type=int, default=1_000_000, help="first seed")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many simulated runs")
    parser.add_argument("--inputs", type=int, default=INPUTS, help="how many inputs for readers")
    parser.add_argument("--cases", type=int, default=CASES, help="how many requests to a gateway")
    parser.add_argument("--kills", type=int, default=KILLS, help="how many parts of rings die")
    asked = parser.parse_args()
    broken = len(soak(asked.first, asked.seeds, print)) if asked.seeds else 0
    if asked.inputs:
        broken += soak_readers(asked.inputs, asked.first, print)
    if asked.cases:
        broken += soak_api(asked.cases, asked.first, print)
    if asked.kills:
        broken += soak_rings(asked.kills, print)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
