"""What a step's time is split into."""

from __future__ import annotations

import pytest

from atoll.gateway.laps import LAPS_KEPT, Laps


def test_overhead_is_what_no_engine_process_took() -> None:
    laps = Laps()
    laps.note(lap_s=0.020, stages_s=0.010, ends_s=0.004, sampling_s=0.001, ends_call_s=0.006)
    assert list(laps.overhead_s) == [pytest.approx(0.005)]
    assert list(laps.ends_call_s) == [0.006]


def test_only_the_last_steps_are_kept() -> None:
    laps = Laps()
    for step in range(LAPS_KEPT + 10):
        laps.note(lap_s=float(step), stages_s=0, ends_s=0, sampling_s=0, ends_call_s=0)
    assert len(laps.overhead_s) == LAPS_KEPT
    assert laps.overhead_s[0] == 10
