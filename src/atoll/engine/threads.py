"""Worker threads of the engine's processes, and how processes share cores.

llama.cpp's workers are OpenMP's and spin while they wait. Where several
stages share a machine's cores, spinning takes them from the stage that has
work: three stages of two threads each on two cores took 44 ms a token with
the default and 17.7 ms with a short spin (whole model: 14.1). Where a stage
has the machine to itself, the default is best.

A frame passes a dozen short pieces of work in several processes. Each may find
both cores taken by a thread that has just begun its slice of time, 3 ms by
default on Linux; with short slices it is let in at once (2 to 9 % less time a
token on two cores).
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys

SHARED_SPIN = 3000
"""GOMP_SPINCOUNT where stages share cores: long enough for the waits inside a
call, so that a worker seldom sleeps before its share of the next layer comes."""

SHARED_SLICE_NS = 100_000
"""Slice of time where stages share cores: the shortest that Linux grants
(kernel/sched/syscalls.c, __setparam_fair)."""

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


def shorten_slices() -> bool:
    """Ask for short slices of time, for this thread and what it starts from now on.

    Linux 6.12 and newer grant them to anybody; older ones ignore it. A
    process's share of the processor stays as it is.

    Returns:
        Whether the system took it.
    """
    call = _SCHED_SETATTR.get(platform.machine())
    if not sys.platform.startswith("linux") or call is None:
        return False
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    attributes = _SCHED_ATTR.pack(_SCHED_ATTR.size, 0, 0, nice, 0, SHARED_SLICE_NS, 0, 0)
    return bool(ctypes.CDLL(None).syscall(call, 0, attributes, 0) == 0)


_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
"""Number of the system call, by machine."""
_SCHED_ATTR = struct.Struct("=IIQiIQQQ")
"""struct sched_attr (sched_setattr(2)): size, policy, flags, nice, priority,
runtime (of ordinary threads: the slice), deadline, period; times in nanoseconds."""


def stage_threads(asked: int) -> int:
    """Worker threads of a stage: as many as asked for; 0: all usable cores, up to 4."""
    return asked or min(usable_cores(), THREADS_DEFAULT_MAX)
