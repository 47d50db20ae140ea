"""Threads of the engine's processes, and what they are told of spinning."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from atoll.engine.threads import (
    SHARED_SLICE_NS,
    SHARED_SPIN,
    THREADS_DEFAULT_MAX,
    child_environment,
    stage_threads,
    usable_cores,
)


def test_usable_cores_are_those_this_process_may_run_on() -> None:
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux has affinity")
def test_fewer_cores_allowed_are_fewer_cores_used() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cores() == 1
        assert stage_threads(0) == 1
    finally:
        os.sched_setaffinity(0, before)


def test_threads_are_what_was_asked_for_or_a_few() -> None:
    assert stage_threads(7) == 7
    assert 1 <= stage_threads(0) <= min(usable_cores(), THREADS_DEFAULT_MAX)


SLICE = """
import ctypes, os, struct
from atoll.engine.threads import _SCHED_ATTR, shorten_slices
granted, before = shorten_slices(), os.nice(0)
got = ctypes.create_string_buffer(_SCHED_ATTR.size)
call = {"x86_64": 315, "aarch64": 275}[os.uname().machine]
assert ctypes.CDLL(None).syscall(call, 0, got, _SCHED_ATTR.size, 0) == 0
_, policy, _, nice, _, slice_ns, _, _ = _SCHED_ATTR.unpack(got.raw)
print(granted, policy, nice == before, slice_ns)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux grants slices")
@pytest.mark.parametrize("nice", [0, 5])
def test_short_slices_change_nothing_else(nice: int) -> None:
    """In a process of its own; kernels before 6.12 have no slices and report 0."""
    command = ["nice", "-n", str(nice), sys.executable, "-c", SLICE]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    granted, policy, same_nice, slice_ns = done.stdout.split()
    assert (granted, policy, same_nice) == ("True", "0", "True")
    assert slice_ns in {"0", str(SHARED_SLICE_NS)}


def test_spinning_is_told_to_openmp_only_where_asked() -> None:
    assert child_environment(SHARED_SPIN)["GOMP_SPINCOUNT"] == str(SHARED_SPIN)
    assert child_environment(0)["GOMP_SPINCOUNT"] == "0"
    assert "GOMP_SPINCOUNT" not in child_environment(None)
