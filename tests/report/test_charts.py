"""Charts as data: which axis, and what fits together."""

from __future__ import annotations

import math

import pytest

from atoll.report.charts import LOG_SPAN, Bar, BarChart, Bars, Line, finite


def of(*values: float | None) -> BarChart:
    bars = tuple(Bar(value) for value in values)
    return BarChart("t", "s", tuple(map(str, values)), (Bars("b", bars),))


def test_values_far_apart_make_the_axis_logarithmic() -> None:
    assert not of(1.0, LOG_SPAN).is_log
    assert of(1.0, LOG_SPAN * 1.01).is_log
    assert not of(7.0).is_log
    assert not of(None, None).is_log
    # No logarithm shows a zero.
    assert not of(0.0, 1e9).is_log
    assert of(None, 1.0, 50.0).values == [1.0, 50.0]


def test_bars_have_labels_and_points_two_values() -> None:
    with pytest.raises(AssertionError):
        BarChart("t", "s", ("one",), (Bars("b", (Bar(1.0), Bar(2.0))),))
    with pytest.raises(AssertionError):
        Line("l", (1.0, 2.0), (1.0,))


def test_ends_that_are_ends() -> None:
    assert finite([(1.0, math.inf), None, (2.0, 3.0)]) == [1.0, 2.0, 3.0]
