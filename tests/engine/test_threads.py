"""Threads of the engine's processes, and what they are told of spinning."""

from __future__ import annotations

import os

import pytest

from atoll.engine.threads import (
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


def test_spinning_is_told_to_openmp_only_where_asked() -> None:
    assert child_environment(SHARED_SPIN)["GOMP_SPINCOUNT"] == str(SHARED_SPIN)
    assert child_environment(0)["GOMP_SPINCOUNT"] == "0"
    assert "GOMP_SPINCOUNT" not in child_environment(None)
