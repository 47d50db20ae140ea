"""Bounds are bounds: tests/plan/test_planner.py holds whole plans against them."""

from __future__ import annotations

import pytest

from atoll.plan.bound import least_busy_s, least_lap_s
from atoll.plan.cut import Share, least_time, total_s


def test_a_lap_over_one_node_that_holds_all_is_met() -> None:
    shares = [Share(1.0, 0.5, 10), Share(9.0, 5.0, 10)]
    assert least_lap_s(shares, [2.0, 3.0], 4.0, 10) == pytest.approx(1 + 5 + 2 + 4)


def test_no_cut_is_under_it() -> None:
    shares = [Share(0.3, 0.5, 4), Share(0.1, 0.7, 3), Share(0.2, 1.0, 9)]
    counts = least_time(shares, 9)
    assert counts is not None
    real = total_s(shares, counts) + 3 * 0.1 + 0.1
    assert least_lap_s(shares, [0.1] * 3, 0.1, 9) <= real


def test_layers_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        least_lap_s([Share(0, 1, 2)], [0.0], 0.0, 3)


def test_the_busiest_is_even_where_parts_of_layers_may_be() -> None:
    assert least_busy_s([Share(0, 1, 9), Share(0, 2, 9)], 6) == pytest.approx(4.0)
    assert least_busy_s([Share(0, 1, 3), Share(0, 2, 9)], 6) == pytest.approx(6.0)
