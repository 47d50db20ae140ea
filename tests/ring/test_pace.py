"""What a loop takes, told by windows that come back."""

from __future__ import annotations

import random

import pytest

from atoll.ring.pace import FAR_S, Pace


def told(*windows: tuple[int, float, float]) -> Pace:
    pace = Pace()
    for window in windows:
        pace.note(*window)
    return pace


def test_nothing_is_known_of_windows_that_were_not_timed() -> None:
    pace = told((1, 0.0, 0.0))
    assert not pace.is_known
    assert pace.loop_s == 0
    assert not pace.is_far


def test_a_first_window_tells_links_and_stages_apart() -> None:
    pace = told((1, 0.3, 0.08))
    assert pace.away_s == pytest.approx(0.22)
    assert pace.work_s(1) == pytest.approx(0.08)
    assert pace.loop_s == pytest.approx(0.3)
    assert 0 < pace.row_s < pace.stages.base_s


def test_flights_of_several_sizes_tell_what_a_row_takes() -> None:
    rng = random.Random(4)
    pace = Pace()
    for _ in range(200):
        rows = rng.choice((1, 2, 4, 8))
        busy_s = (0.01 + 0.003 * rows) * rng.uniform(0.9, 1.1)
        pace.note(rows, 0.1 + busy_s, busy_s)
    assert pace.row_s == pytest.approx(0.003, rel=0.2)
    assert pace.stages.base_s == pytest.approx(0.01, rel=0.4)
    assert pace.away_s == pytest.approx(0.1, rel=0.05)


def test_times_of_stages_are_never_negative() -> None:
    pace = told(*[(rows, 0.1, 0.05 / rows) for rows in (1, 8) * 20])
    assert pace.row_s == 0
    assert pace.stages.base_s > 0


def test_short_ways_count_more_than_ones_that_may_have_waited() -> None:
    pace = told((1, 0.2, 0.01), *[(1, 0.06, 0.01)] * 20)
    assert pace.away_s == pytest.approx(0.05, rel=0.01)
    pace.note(1, 0.5, 0.01)
    assert pace.away_s < 0.07


def test_far_is_what_passes_mostly_on_links() -> None:
    assert told((1, 0.1, 0.02)).is_far
    assert not told((1, 0.02, 0.015)).is_far
    assert not told((1, FAR_S / 2, 0.0001)).is_far


@pytest.mark.parametrize(
    ("away_s", "streams", "parallel", "lanes"),
    [
        # Nothing to wait for: one flight of all has the least calls.
        (0.0, 16, 1, 1),
        # Long ways: as many flights as leave the stages no more to do than a loop lasts.
        (0.2, 16, 1, 4),
        (0.2, 1, 1, 1),
        # Stages of their own machines compute at the same time.
        (0.0, 16, 3, 3),
    ],
)
def test_lanes_are_as_many_as_make_the_shortest_step(
    away_s: float, streams: int, parallel: int, lanes: int
) -> None:
    pace = Pace(parallel)
    pace.away_s, pace.streams = away_s, streams
    pace.stages.base_s, pace.stages.row_s = 0.02, 0.008
    assert pace.lanes() == lanes


def test_ends_are_timed_apart() -> None:
    pace = told((1, 0.1, 0.02))
    for _ in range(100):
        pace.note_ends(1, 0.004)
        pace.note_ends(4, 0.007)
    pace.note_ends(9, 0.0)
    assert pace.ends.row_s == pytest.approx(0.001)
    assert pace.ends.base_s == pytest.approx(0.003)
    assert pace.work_s(1) == pytest.approx(0.024)
    assert pace.loop_s == pytest.approx(0.104)


def test_a_slow_draft_model_is_tried_again() -> None:
    pace = told((1, 0.1, 0.01))
    pace.note_draft(0.01)
    assert pace.draft_s == 0.01
    pace.note_draft(1.0)
    slow_s = pace.draft_s
    assert slow_s == pytest.approx(0.109)
    for _ in range(600):
        pace.note(1, 0.1, 0.01)
    assert pace.draft_s < slow_s / 10


def paced(
    away_s: float, row_s: float, base_s: float = 0.0, *, streams: int = 1, parallel: int = 1
) -> Pace:
    pace = Pace(parallel)
    pace.note(1, away_s + base_s + row_s, base_s + row_s)
    pace.away_s, pace.streams = away_s, streams
    pace.stages.row_s, pace.stages.base_s = row_s, base_s
    return pace


def test_a_guess_pays_where_it_saves_more_than_its_row_takes() -> None:
    far, near = paced(0.19, 0.01), paced(0.0, 0.01, 0.03)
    assert far.pays(0.06, 1.0)
    assert not far.pays(0.04, 1.0)
    assert near.pays(0.26, 1.0)
    assert not near.pays(0.24, 1.0)
    # What it takes to make it counts as well.
    assert not far.pays(0.06, 1.0, 0.01)
    assert far.pays(0.11, 1.0, 0.01)


def test_near_a_guess_adds_less_to_a_loop_of_many_tokens() -> None:
    far, near = paced(0.19, 0.01), paced(0.0, 0.01, 0.03)
    assert not near.pays(0.3, 2.0)
    # Far away the next windows are on their way meanwhile.
    assert far.pays(0.06, 5.0)


def test_streams_that_fill_the_stages_have_few_guesses() -> None:
    few, many = (paced(0.2, 0.008, 0.01, streams=n) for n in (2, 64))
    assert few.pays(0.3, 1.0)
    assert not many.pays(0.3, 1.0)
    # Where stages have machines of their own, there is room for more.
    assert paced(0.2, 0.008, 0.01, streams=16, parallel=3).pays(0.3, 1.0)
    # One draft model guesses for all of them.
    assert few.pays(0.3, 1.0, 0.02)
    assert not few.pays(0.3, 1.0, 0.04)
    # And near, only one of unlike windows is computed at a time.
    assert not paced(0.0, 0.008, 0.01, streams=2).pays(0.99, 1.0)


def test_an_untimed_ring_takes_any_guess() -> None:
    assert Pace().pays(0.001, 9.0)
