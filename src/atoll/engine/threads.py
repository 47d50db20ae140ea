"""Worker threads of the engine's processes.

llama.cpp's workers are OpenMP's and spin while they wait. Where several
stages share a machine's cores, spinning takes them from the stage that has
work: three stages of two threads each on two cores took 44 ms a token with
the default and 17.7 ms with a short spin (whole model: 14.1). Where a stage
has the machine to itself, the default is best.
"""

from __future__ import annotations

import os

SHARED_SPIN = 1000
"""GOMP_SPINCOUNT where stages share cores."""

THREADS_DEFAULT_MAX = 4
"""More threads than this seldom help a stage, whose layers are few and small."""


def child_environment(spin: int | None) -> dict[str, str]:
    """Variables of an engine process beside those that every child gets.

    Args:
        spin: Iterations an idle worker spins before it sleeps; None: OpenMP's default.
    """
    return {} if spin is None else {"GOMP_SPINCOUNT": str(spin)}


def usable_cores() -> int:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def stage_threads(asked: int) -> int:
    """Worker threads of a stage: as many as asked for; 0: all usable cores, up to 4."""
    return asked or min(usable_cores(), THREADS_DEFAULT_MAX)
