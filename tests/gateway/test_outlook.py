"""What is foretold for a request, and when it is turned away."""

from __future__ import annotations

import math

import pytest

from atoll.api.backend import Demand
from atoll.domain.errors import Overloaded
from atoll.domain.generation import GenerateRequest
from atoll.gateway.outlook import (
    ANSWER_TOKENS,
    RETRY_AFTER_S_MAX,
    STALE_S,
    AnswerLengths,
    Prospect,
    check,
)
from atoll.gateway.routing import Load, Pace

PACE = Pace(token_s=0.1, busy_s=0.05, row_s=0.01)
"""Four streams at once: 0.2 s a token."""


def prospect(
    active: int = 0,
    waiting: int = 0,
    *,
    room: int = 8,
    yields: bool = False,
    seen_s: float = 0.0,
    pace: Pace = PACE,
) -> Prospect:
    return Prospect(Load(pace, active, waiting, 4), room, yields, seen_s)


def asks(deadline_s: float | None, tokens: int = 10, prompt: int = 10, n: int = 1) -> Demand:
    request = GenerateRequest((1,) * prompt, tokens, ignore_eos=True)
    return Demand("a", deadline_s=deadline_s, requests=(request,) * n)


def refused(demand: Demand, *prospects: Prospect, lengths: AnswerLengths | None = None) -> int:
    """After how many seconds it is told to come back."""
    with pytest.raises(Overloaded) as caught:
        check(demand, prospects, lengths or AnswerLengths())
    assert caught.value.hint
    return caught.value.retry_after_s


def let_in(demand: Demand, *prospects: Prospect, lengths: AnswerLengths | None = None) -> None:
    check(demand, prospects, lengths or AnswerLengths())


def test_the_deadline_is_held_against_what_is_foretold() -> None:
    # Alone: ten rows of a hundredth of a second, and ten tokens of a tenth.
    let_in(asks(1.11), prospect())
    assert refused(asks(1.09), prospect()) == 1
    # With three others a token takes twice as long.
    let_in(asks(2.11), prospect(3))
    assert refused(asks(1.1), prospect(3)) == 1


def test_a_line_is_waited_for_and_the_retry_says_how_long() -> None:
    # Each of the four before it has an answer of the usual length.
    wait_s = ANSWER_TOKENS * 0.2
    let_in(asks(wait_s + 2.2), prospect(4, 3))
    assert refused(asks(2.2), prospect(4, 3)) == math.ceil(wait_s - 0.1)
    assert refused(asks(1), prospect(4, 10_000)) == RETRY_AFTER_S_MAX


def test_the_quicker_of_two_rings_counts() -> None:
    slow = prospect(pace=Pace(1.0, 0.5, 0.1))
    let_in(asks(1.2), slow, prospect())
    assert refused(asks(1.2), slow) == 10


def test_several_answers_stand_in_line_behind_each_other() -> None:
    let_in(asks(3, n=1), prospect(3, room=9))
    assert refused(asks(3, n=8), prospect(3, room=9)) > 1


def test_where_nothing_is_known_all_are_let_in() -> None:
    let_in(asks(0.001), prospect(seen_s=math.inf))
    let_in(asks(0.001), prospect(4, 3, seen_s=math.inf))
    # One ring of two may be quick enough.
    let_in(asks(0.001), prospect(), prospect(seen_s=math.inf))


def test_an_idle_ring_is_tried_again_after_a_while() -> None:
    refused(asks(0.001), prospect(seen_s=STALE_S - 1))
    let_in(asks(0.001), prospect(seen_s=STALE_S + 1))
    refused(asks(0.001), prospect(1, seen_s=STALE_S + 1))


def test_no_deadline_is_never_missed() -> None:
    let_in(asks(None, tokens=10**9), prospect(4, 3))


def test_a_full_line_is_told_when_a_place_will_be_free() -> None:
    full = prospect(4, 64, room=0)
    place_s = ANSWER_TOKENS * 0.2 / 4
    assert refused(asks(None), full) == math.ceil(place_s)
    assert refused(Demand("a"), full, prospect(4, 64, room=0, pace=Pace(1, 1, 1))) == 7
    let_in(asks(None), full, prospect())
    let_in(asks(None), prospect(4, 64, room=0, yields=True))
    # Room for one is none for two.
    let_in(asks(None, n=1), prospect(4, 63, room=1))
    refused(asks(None, n=2), prospect(4, 63, room=1))


def test_before_a_request_is_read_the_least_is_taken() -> None:
    let_in(Demand("a", deadline_s=0.2), prospect())
    refused(Demand("a", deadline_s=0.05), prospect())
    refused(Demand("a", deadline_s=5), prospect(4, 0))


def test_answers_are_taken_to_be_as_long_as_they_were() -> None:
    lengths = AnswerLengths()
    request = GenerateRequest((1,), 10**6)
    assert lengths.expected(request) == ANSWER_TOKENS
    for _ in range(100):
        lengths.note(20)
    assert 20 <= lengths.expected(request) <= 21
    assert lengths.expected(GenerateRequest((1,), 5)) == 5
    assert lengths.expected(GenerateRequest((1,), 500, ignore_eos=True)) == 500
    let_in(Demand("a", deadline_s=3, requests=(request,)), prospect(), lengths=lengths)
    refused(Demand("a", deadline_s=3, requests=(request,)), prospect())
