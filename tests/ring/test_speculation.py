"""The line of a session's guessed tokens: what is sent, checked, and thrown away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from atoll.ring.coordinator_config import CoordinatorConfig
from atoll.ring.drafting import LONGEST, Guess
from atoll.ring.pace import Pace
from atoll.ring.speculation import MODEL_STREAMS, Speculation

CONFIG = CoordinatorConfig(n_slots=1, context=100, rows_max=256, guess_rows=3, guess_depth=5)


class Counting:
    """Guesses that each token is one more than the one before it."""

    def __init__(self, last: int = 0, n: int = 99) -> None:
        self.last, self.n = last, n

    def accept(self, tokens: Sequence[int]) -> None:
        self.last = tokens[-1]

    def propose(self, after: Sequence[int], n: int) -> list[Guess]:
        first = (after[-1] if after else self.last) + 1
        return [Guess(token, LONGEST - 1) for token in range(first, first + min(n, self.n))]


def far() -> Pace:
    pace = Pace()
    pace.note(1, 1.0, 0.0)
    return pace


def begun(*, pace: Pace | None = None, chained: bool = True, n: int = 99) -> Speculation:
    line = Speculation(Counting(n=n), pace or far(), CONFIG)
    assert line.sampled([1], chained=chained) is False
    return line


def windows(line: Speculation, room: int = 50) -> list[tuple[int, ...]]:
    found = []
    while (span := line.next_tokens(room)) is not None:
        found.append(line.tokens(*span))
    return found


def test_guesses_go_behind_the_token_that_went_alone() -> None:
    line = begun()
    assert line.ahead == 0
    assert windows(line) == [(2, 3, 4), (5, 6)]
    assert line.ahead == 5
    assert line.guesses(1) == (2,)


def test_or_with_it_where_it_did_not() -> None:
    line = begun(chained=False)
    assert windows(line) == [(1, 2, 3), (4, 5, 6)]
    assert line.guesses(3) == (2, 3, 4)


def test_as_long_as_guesses_are_right_the_line_goes_on() -> None:
    line = begun(chained=False)
    windows(line)
    assert line.sampled([2, 3, 4], chained=False) is False
    # Four is on its way already, as the first row of the next window.
    assert windows(line) == [(7, 8, 9)]
    assert line.guesses(3) == (5, 6, 7)


def test_a_wrong_guess_makes_all_behind_it_stale() -> None:
    line = begun(chained=False)
    windows(line)
    assert line.sampled([2, 9], chained=False) is True
    assert line.ahead == 0
    assert windows(line) == [(9, 10, 11), (12, 13, 14)]


def test_a_wrong_guess_with_nothing_behind_it_makes_nothing_stale() -> None:
    line = begun(chained=False, n=2)
    assert line.next_tokens(3) == (0, 3)
    assert line.sampled([2, 3, 77], chained=False) is False
    assert line.tokens(0, 1) == (77,)


def test_a_line_is_no_longer_than_its_room() -> None:
    line = begun(chained=False)
    assert windows(line, room=2) == [(1, 2)]
    assert begun().next_tokens(1) is None


def test_a_drafter_without_a_guess_is_asked_once_for_each_token() -> None:
    line = begun(n=0)
    assert line.next_tokens(9) is None
    assert line.chains(1)
    line.sampled([2], chained=True)
    assert line.next_tokens(9) is None


def test_tokens_chain_where_guesses_do_not_pay() -> None:
    line = begun()
    assert windows(line)
    assert not line.chains(1), "guesses are on their way"
    for token in range(500, 3000, 25):
        line.sampled([token], chained=False)
        windows(line)
    assert line._worth.hit < 0.01
    slow_rows = far()
    slow_rows.away_s, slow_rows.stages.row_s = 0.0, 0.01
    line._pace = slow_rows
    line.sampled([9000], chained=False)
    assert windows(line) == [(9000,)]
    assert line.chains(1)


def test_near_rings_merge_guesses_with_the_next_token_only() -> None:
    near = Pace()
    near.note(1, 0.02, 0.015)
    line = begun(pace=near)
    assert windows(line) == []
    assert not line.chains(1), "there was a guess: the next token waits for its like"
    line.sampled([2], chained=False)
    assert windows(line)[0] == (2, 3, 4)


def test_guesses_are_counted() -> None:
    pace = far()
    line = begun(pace=pace, chained=False)
    windows(line)
    line.sampled([2, 3, 4], chained=False)
    line.sampled([5, 9], chained=False)
    assert (pace.guessed, pace.right) == (5, 4)


MODELLED = replace(CONFIG, draft_model=True, guess_rows=4, guess_depth=12)


def modelled(*, n: int = 0, hit: float = 0.1) -> Speculation:
    """A line with a draft model, and a lookup that guesses so many tokens, seldom right."""
    line = Speculation(Counting(n=n), far(), MODELLED)
    line._worth.hit = hit
    assert line.sampled([1], chained=True) is False
    return line


def test_a_draft_model_is_asked_where_it_promises_more() -> None:
    line = modelled()
    assert windows(line) == []
    assert line.chains(1), "the token goes on alone while the model guesses"
    asked = line.ask(50)
    assert asked is not None
    assert (asked.line, asked.hints, asked.n) == ((1,), (), 4)
    assert line.ask(50) is None, "one question at a time"
    line.drafted([2, 3, 4, 5])
    assert windows(line) == [(2, 3, 4, 5)]
    again = line.ask(50)
    assert again is not None
    assert again.line == (1, 2, 3, 4, 5)


def test_a_lookup_that_is_right_more_often_is_asked_first() -> None:
    line = modelled(n=99, hit=0.95)
    assert windows(line)[0] == (2, 3, 4, 5)
    assert line.ask(50) is None


def test_the_model_is_told_what_the_lookup_would_guess() -> None:
    line = modelled(n=99)
    asked = line.ask(50)
    assert asked is not None
    assert asked.hints == (2, 3, 4)
    before = line._worth.hit
    line.drafted([2, 3, 9, 10])
    assert line._worth.hit > before, "two of three hints are what the model says"


@pytest.mark.parametrize(
    ("meanwhile", "left"),
    [
        ([2], [(3, 4, 5)]),
        ([2, 3], [(4, 5)]),
        ([2, 3, 4, 5], []),
        ([2, 3, 4, 5, 6], []),
        ([7], []),
        ([2, 7], []),
    ],
)
def test_what_was_sampled_meanwhile_confirms_or_refutes_a_draft(
    meanwhile: list[int], left: list[tuple[int, ...]]
) -> None:
    line = modelled()
    line.ask(50)
    for token in meanwhile:
        line.sampled([token], chained=True)
    line.drafted([2, 3, 4, 5])
    assert windows(line) == left


def test_a_guess_that_goes_on_alone_is_not_sent_again() -> None:
    line = modelled()
    line.ask(50)
    # The window of 1 is at the ends, to be chained, when the guesses come.
    line.drafted([2, 3])
    assert line.sampled([2], chained=True) is False
    assert windows(line) == [(3,)]


def test_no_model_is_asked_nearby_or_beyond_the_room() -> None:
    line = modelled()
    assert line.ask(1) is None
    line._pace = Pace()
    line._pace.note(1, 0.02, 0.015)
    assert not line.uses_model
    assert line.ask(50) is None


def test_no_model_is_asked_for_many_streams() -> None:
    line = modelled()
    line._pace.streams = MODEL_STREAMS
    assert line.uses_model
    line._pace.streams += 1
    assert not line.uses_model


def test_a_model_that_is_never_right_is_asked_less_and_less() -> None:
    line = modelled()
    asked = 0
    for token in range(100, 160):
        if (question := line.ask(50)) is not None:
            asked += question.n
            line.drafted([0] * question.n)
            windows(line)
        line.sampled([token], chained=True)
    assert 0 < asked < 100


def test_several_streams_send_windows_of_few_sizes() -> None:
    pace = far()
    pace.streams = 3
    line = Speculation(Counting(), pace, replace(CONFIG, guess_rows=7, guess_depth=7))
    line.sampled([1], chained=False)
    assert [len(window) for window in windows(line)] == [4, 2, 2]
