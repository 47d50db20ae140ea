"""Times between those that were measured, and what a fleet may not be."""

from __future__ import annotations

import pytest

from atoll.domain.errors import BadRequest
from atoll.domain.measure import WindowTime, interpolated
from atoll.plan.fleet import Fleet, Gateway, Link, Machine, check_fleet

TIMES = (WindowTime(1, 0.001), WindowTime(4, 0.004), WindowTime(64, 0.008))


@pytest.mark.parametrize(
    ("rows", "seconds"),
    [(1, 0.001), (2, 0.002), (4, 0.004), (34, 0.006), (64, 0.008), (128, 0.016)],
)
def test_between_and_beyond_what_was_measured(rows: int, seconds: float) -> None:
    assert interpolated(TIMES, rows) == pytest.approx(seconds)


def test_below_the_smallest_window_it_is_that_ones_time() -> None:
    assert interpolated(TIMES[1:], 1) == 0.004


def test_a_frame_on_a_link() -> None:
    assert Link(0.01, 1e6).seconds(5000) == pytest.approx(0.015)


def test_a_sound_fleet_passes() -> None:
    check_fleet(Fleet(Gateway(TIMES), (Machine("a", 1, TIMES), Machine("b", 1, TIMES))))


def test_the_gateways_times_are_checked() -> None:
    with pytest.raises(BadRequest, match="gateway: its times are not of rising numbers"):
        check_fleet(Fleet(Gateway(()), ()))
