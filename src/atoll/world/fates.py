"""Fates: which simulation a seed is of, and what came of it."""

from __future__ import annotations

from typing import Literal

import msgspec

from atoll.sim.ring_sim import SimFailure, run_seed

Kind = Literal["ring", "system"]


class Outcome(msgspec.Struct, frozen=True):
    """What came of one seed. `problem` is empty where every invariant held.

    `events` counts what happened, `faults` what was made to go wrong, and `trace`
    has the last events before the problem.
    """

    seed: int
    kind: Kind
    events: int = 0
    faults: dict[str, int] = {}
    problem: str = ""
    trace: tuple[str, ...] = ()


def run_fate(seed: int) -> Outcome:
    """Simulate one seed to its end, well or badly."""
    try:
        report = run_seed(seed)
    except SimFailure as failure:
        return Outcome(seed, "ring", failure.event, {}, failure.problem, failure.trace)
    return Outcome(seed, "ring", report.events, report.faults)
