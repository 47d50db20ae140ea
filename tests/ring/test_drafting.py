"""Guesses by looking up what stood before, and when they are worth their rows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.ring.drafting import HIT_FIRST, Lookup, Worth
from atoll.ring.pace import Pace


def paced(away_s: float, row_s: float, base_s: float = 0.0, streams: int = 1) -> Pace:
    pace = Pace()
    pace.note(1, away_s + base_s + row_s, base_s + row_s)
    pace.away_s, pace.streams = away_s, streams
    pace.stages.row_s, pace.stages.base_s = row_s, base_s
    return pace


def test_what_followed_before_is_guessed() -> None:
    lookup = Lookup((1, 2, 3, 4, 5, 6, 7, 1, 2))
    assert lookup.propose([], 3) == [3, 4, 5]
    assert lookup.propose([3], 2) == [4, 5]
    assert lookup.propose([9], 2) == []
    lookup.accept([3, 4])
    assert lookup.propose([], 2) == [5, 6]


def test_the_latest_and_the_longest_run_counts() -> None:
    # After 1, 2 came 7 first and 8 later; after 5, 1, 2 only 7.
    lookup = Lookup((5, 1, 2, 7, 9, 1, 2, 8, 9, 1, 2))
    assert lookup.propose([], 1) == [8]
    lookup = Lookup((5, 1, 2, 7, 9, 1, 2, 8, 5, 1, 2))
    assert lookup.propose([], 1) == [7]


def test_a_period_is_gone_round() -> None:
    assert Lookup((1, 2, 3, 1, 2, 3, 1, 2, 3)).propose([], 7) == [1, 2, 3, 1, 2, 3, 1]


def test_nothing_is_guessed_of_what_is_new() -> None:
    assert Lookup(()).propose([], 4) == []
    assert Lookup((1, 2, 3, 4)).propose([], 4) == []


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(0, 12))
def test_guesses_follow_a_run_that_stood_before(tokens: list[int], n: int) -> None:
    guesses = Lookup(tokens).propose([], n)
    assert len(guesses) <= n
    text = list(tokens)
    for guess in guesses:
        run = [*text[-2:], guess]
        assert any(text[i : i + 3] == run for i in range(len(text) - 2))
        text.append(guess)


def sure(hit: float) -> Worth:
    worth = Worth()
    worth.hit = hit
    return worth


def test_depth_grows_with_the_way_and_with_what_is_right() -> None:
    far, near = paced(0.2, 0.005), paced(0.0, 0.005, 0.015)
    assert sure(0.7).depth(far, 24) > sure(0.7).depth(near, 24) > 0
    assert sure(0.9).depth(near, 24) > sure(0.5).depth(near, 24)
    assert sure(0.7).depth(paced(0.009, 0.0), 24) == 24
    assert sure(0.0).depth(near, 24) == 0
    assert sure(0.01).depth(far, 24) == 0


def test_near_the_depth_is_the_best_of_a_loop() -> None:
    worth, pace = Worth(), paced(0.0, 0.004, 0.05)
    hit = worth.hit
    assert hit == HIT_FIRST
    rates = [sum(hit**i for i in range(k + 1)) / (0.054 + 0.004 * k) for k in range(7)]
    assert worth.depth(pace, 24) == max(range(7), key=lambda k: rates[k])


def test_far_there_are_as_many_as_a_loop_has_time_for() -> None:
    # Guesses of 10 ms fill the loop; more would wait.
    assert sure(0.999).depth(paced(0.24, 0.01), 24) == 24
    assert sure(0.999).depth(paced(0.12, 0.01), 24) == 16
    # What it takes to make them counts as well.
    assert sure(0.999).depth(paced(0.12, 0.01), 24, 0.02) == 5


def test_streams_that_fill_the_stages_have_no_guesses() -> None:
    assert sure(0.9).depth(paced(0.1, 0.005, 0.01), 24) > 4
    assert sure(0.9).depth(paced(0.1, 0.005, 0.01, streams=60), 24) == 0
    # And near only one of unlike windows is computed at a time.
    assert sure(0.9).depth(paced(0.0, 0.005, 0.02, streams=2), 24) == 0


def test_guesses_that_take_long_are_seldom_right_or_do_not_pay() -> None:
    far = paced(0.2, 0.005)
    assert sure(0.8).token_s(far, 0.01) < sure(0.3).token_s(far)
    assert sure(0.8).token_s(far, 0.2) > sure(0.3).token_s(far)


def test_what_does_not_pay_is_tried_again() -> None:
    worth = Worth()
    for _ in range(40):
        worth.note(0, 1)
    low = worth.hit
    for _ in range(200):
        worth.note_none()
    assert low < 0.05
    assert worth.hit == pytest.approx(HIT_FIRST, abs=0.01)


def test_an_untimed_ring_takes_as_many_as_it_may() -> None:
    assert Worth().depth(Pace(), 9) == 9
