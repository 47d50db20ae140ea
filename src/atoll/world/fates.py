"""Fates: which simulation a seed is of, and what came of it."""

from __future__ import annotations

from typing import Literal

import msgspec

from atoll.sim.ring_sim import SimFailure, run_seed
from atoll.world.system_sim import SystemFailure, run_system_seed

Kind = Literal["ring", "system"]
SYSTEM_EVERY = 12
"""One seed of so many is a run of the whole system, which takes longer than the others."""


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


def kind_of(seed: int) -> Kind:
    """Which simulation a seed is of."""
    return "ring" if seed % SYSTEM_EVERY else "system"


def run_fate(seed: int) -> Outcome:
    """Simulate one seed to its end, well or badly."""
    return _run_system(seed) if kind_of(seed) == "system" else _run_ring(seed)


def _run_ring(seed: int) -> Outcome:
    try:
        report = run_seed(seed)
    except SimFailure as failure:
        return Outcome(seed, "ring", failure.event, {}, failure.problem, failure.trace)
    return Outcome(seed, "ring", report.events, report.faults)


def _run_system(seed: int) -> Outcome:
    try:
        report = run_system_seed(seed)
    except SystemFailure as failure:
        return Outcome(seed, "system", failure.events, {}, failure.problem, failure.trace)
    return Outcome(seed, "system", report.events, report.faults)
