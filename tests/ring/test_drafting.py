"""Guesses by looking up what stood before, and when they are worth their rows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.ring.drafting import FAR_S, HIT_FIRST, Lookup, Pace, Worth


def paced(loop_s: float, row_s: float, busy_s: float = 0.0) -> Pace:
    pace = Pace()
    pace.loop_s, pace.row_s, pace.busy_s = loop_s, row_s, busy_s
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


def test_depth_grows_with_the_way_and_with_what_is_right() -> None:
    worth = Worth()
    for _ in range(60):
        worth.note(3, 1)
    far, near = paced(0.2, 0.005), paced(0.02, 0.005)
    assert worth.depth(far, 24) > worth.depth(near, 24) > 0
    assert worth.depth(paced(0.02, 0.0), 24) == 24
    for _ in range(60):
        worth.note(0, 1)
    assert worth.depth(near, 24) == 0
    assert worth.depth(far, 24) <= 1


def test_the_depth_is_the_best_there_is() -> None:
    worth, pace = Worth(), paced(0.05, 0.004)
    hit = worth.hit
    assert hit == HIT_FIRST
    rates = [sum(hit**i for i in range(k + 1)) / (0.05 + 0.004 * k) for k in range(25)]
    assert worth.depth(pace, 24) == max(range(25), key=lambda k: rates[k])


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


def test_laps_are_learnt_and_short_ones_count_more() -> None:
    pace = Pace()
    pace.note(1, 0.0, 0.0)
    assert pace.loop_s == 0
    pace.note(4, 0.05, 0.01)
    assert (pace.loop_s, pace.row_s) == (0.05, 0.0)
    for _ in range(50):
        pace.note(1, 0.02, 0.01)
    assert pace.loop_s == pytest.approx(0.02, rel=0.01)
    pace.note(1, 0.2, 0.01)
    assert pace.loop_s < 0.05
    for _ in range(80):
        pace.note(1, 0.02, 0.01)
        pace.note(5, 0.04, 0.02)
    assert pace.row_s == pytest.approx(0.005, rel=0.1)


def test_far_is_what_passes_mostly_on_links() -> None:
    assert paced(0.1, 0, 0.02).is_far
    assert not paced(0.02, 0, 0.015).is_far
    assert not paced(FAR_S / 2, 0, 0.0001).is_far
    assert not Pace().is_far
