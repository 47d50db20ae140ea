"""The line of a session's guessed tokens: what is sent, checked, and thrown away."""

from __future__ import annotations

from collections.abc import Sequence

from atoll.ring.coordinator_config import CoordinatorConfig
from atoll.ring.drafting import Pace
from atoll.ring.speculation import Speculation

CONFIG = CoordinatorConfig(n_slots=1, context=100, rows_max=256, guess_rows=3, guess_depth=5)


class Counting:
    """Guesses that each token is one more than the one before it."""

    def __init__(self, last: int = 0, n: int = 99) -> None:
        self.last, self.n = last, n

    def accept(self, tokens: Sequence[int]) -> None:
        self.last = tokens[-1]

    def propose(self, after: Sequence[int], n: int) -> list[int]:
        first = (after[-1] if after else self.last) + 1
        return list(range(first, first + min(n, self.n)))


def far() -> Pace:
    pace = Pace()
    pace.loop_s = 1.0
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
    slow_rows.loop_s, slow_rows.row_s = 0.01, 0.01
    line._pace = slow_rows
    line.sampled([9000], chained=False)
    assert windows(line) == [(9000,)]
    assert line.chains(1)


def test_near_rings_merge_guesses_with_the_next_token_only() -> None:
    near = Pace()
    near.loop_s, near.busy_s = 0.02, 0.015
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
