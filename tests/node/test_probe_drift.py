"""When a measurement no longer fits what a stage does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.domain.test_measure import ANSWER

from atoll.domain.measure import WindowTime
from atoll.node.probe_drift import STEPS_MIN, Drift, Work, is_stale

MEASURED = replace(ANSWER, layer_s=(WindowTime(1, 0.001), WindowTime(4, 0.002)), overhead_s=0.001)
LAYERS = 9
STEP_S = 0.01
"""Overhead and nine layers of one row."""


def test_few_steps_say_nothing() -> None:
    assert Drift(MEASURED, LAYERS).note(Work(STEPS_MIN - 1, STEPS_MIN - 1, 99.0)) is None


def test_what_was_predicted_has_the_ratio_one() -> None:
    assert Drift(MEASURED, LAYERS).note(Work(100, 100, 100 * STEP_S)) == pytest.approx(1.0)


def test_rows_of_several_streams_are_predicted_too() -> None:
    assert Drift(MEASURED, LAYERS).note(Work(100, 400, 100 * 0.019)) == pytest.approx(1.0)


def test_each_comparison_is_of_new_steps() -> None:
    drift = Drift(MEASURED, LAYERS)
    assert drift.note(Work(50, 50, 50 * STEP_S)) == pytest.approx(1.0)
    assert drift.note(Work(99, 99, 1e6)) is None
    assert drift.note(Work(100, 100, 150 * STEP_S)) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("ratio", "stale"), [(0.5, True), (0.67, False), (1.0, False), (1.5, False), (1.51, True)]
)
def test_bounds(ratio: float, stale: bool) -> None:
    assert is_stale(ratio) is stale


@given(st.floats(0.01, 100), st.integers(50, 10_000), st.integers(1, 8))
def test_the_ratio_is_how_much_longer_it_took(factor: float, steps: int, rows: int) -> None:
    drift = Drift(MEASURED, LAYERS)
    usual = drift.note(Work(steps, steps * rows, steps * STEP_S))
    slowed = Drift(MEASURED, LAYERS).note(Work(steps, steps * rows, steps * STEP_S * factor))
    assert usual is not None
    assert slowed == pytest.approx(usual * factor)
