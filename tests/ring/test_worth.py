"""How often guesses are right, by what they rest on."""

from __future__ import annotations

import pytest

from atoll.ring.pace import Pace
from atoll.ring.worth import Worth

GRADES = (0.2, 0.9)
FIRST = 0.35


def test_each_grade_is_counted_apart() -> None:
    worth = Worth(GRADES, FIRST)
    assert [worth.chance(grade) for grade in (0, 1)] == list(GRADES)
    for _ in range(20):
        worth.note(0, right=True)
    assert worth.chance(0) > 0.7
    assert worth.chance(1) == GRADES[1]
    for _ in range(20):
        worth.note(1, right=False)
    assert worth.chance(1) < 0.25


def test_what_was_right_lately_counts_most() -> None:
    early, late = Worth(GRADES, FIRST), Worth(GRADES, FIRST)
    for at in range(200):
        early.note(0, right=at < 100)
        late.note(0, right=at >= 100)
    assert late.chance(0) > 0.8
    assert early.chance(0) < 0.2
    assert late.hit > early.hit


def test_what_is_not_right_is_tried_again() -> None:
    worth = Worth(GRADES, FIRST)
    for _ in range(40):
        worth.note(1, right=False)
    assert worth.hit < 0.05
    assert worth.chance(1) < 0.15
    for _ in range(300):
        worth.note_none()
    assert worth.hit == pytest.approx(FIRST, abs=0.01)
    assert worth.chance(1) == pytest.approx(GRADES[1], abs=0.03)


def test_guesses_that_take_long_or_are_seldom_right_make_slow_tokens() -> None:
    pace = Pace()
    pace.note(1, 0.2, 0.01)
    often, seldom = Worth((0.8,), 0.8), Worth((0.3,), 0.3)
    assert often.token_s(pace, 0.01) < seldom.token_s(pace)
    assert often.token_s(pace, 0.2) > seldom.token_s(pace)
    assert often.token_s(pace) == pytest.approx(0.2 * pace.loop_s + pace.row_s)
