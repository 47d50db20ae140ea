"""The coordinator with guesses: what leaves, what comes back, and what becomes stale."""

from __future__ import annotations

from collections.abc import Sequence

from tests.ring.test_coordinator import EPOCH, back, config, ends, items_of, request, sent, submit

from atoll.domain.generation import Sampled
from atoll.domain.ids import SessionId
from atoll.domain.wire import Window
from atoll.ring.coordinator import Coordinator
from atoll.ring.coordinator_messages import (
    CoordinatorEffect,
    Emit,
    Failed,
    Finished,
    HeadDone,
    HeadItem,
    RingUp,
    RunEnds,
    SendCancel,
    TailDone,
    TailItem,
)
from atoll.ring.drafting import LONGEST, Guess
from atoll.ring.messages import Refuse


class Counting:
    """Guesses that each token is one more than the one before it."""

    def __init__(self) -> None:
        self.last = 0

    def accept(self, tokens: Sequence[int]) -> None:
        self.last = tokens[-1]

    def propose(self, after: Sequence[int], n: int) -> list[Guess]:
        first = (after[-1] if after else self.last) + 1
        return [Guess(token, LONGEST - 1) for token in range(first, first + n)]


def word(token: int) -> Sampled:
    return Sampled(token, b"x")


def guessing(**changes: int) -> Coordinator:
    limits = {"guess_rows": 2, "guess_depth": 4, "lanes": 4} | changes
    c = Coordinator(config(**limits), lambda _request: Counting())
    c.pace.note(1, 1.0, 0.0)
    c.handle(RingUp(EPOCH))
    return c


def begun(c: Coordinator, tokens: int = 30) -> list[Window]:
    """Token 10 was sampled; it and the guesses 11 to 14 are on their way."""
    submit(c, 1, request(prompt=3, max_tokens=tokens))
    (window,) = sent(ends(c, HeadDone(b"h")))
    back(c, window)
    effects = ends(c, TailDone(word(10), b"n"))
    return sent(effects) + heads(c, effects)


def heads(c: Coordinator, effects: list[CoordinatorEffect]) -> list[Window]:
    """Let the ends compute windows with guesses as long as they are asked to."""
    windows: list[Window] = []
    while any(isinstance(effect, RunEnds) for effect in effects):
        effects = ends(c, HeadDone(b"g"))
        windows += sent(effects)
    return windows


def emitted(effects: list[CoordinatorEffect]) -> list[int]:
    return [effect.sampled.token for effect in effects if isinstance(effect, Emit)]


def test_several_windows_are_on_their_way() -> None:
    windows = begun(guessing())
    assert [(w.keep, w.rows) for w in windows] == [(3, 1), (4, 2), (6, 2)]
    assert [w.seq for w in windows] == [1, 2, 3]


def test_right_guesses_bring_several_tokens_a_window() -> None:
    c = guessing()
    first, second, _ = begun(c)
    (item,) = items_of(back(c, first))
    assert isinstance(item, TailItem)
    assert (item.checked, item.guesses, item.chain) == (1, (11,), False)
    effects = ends(c, TailDone(word(11)))
    assert emitted(effects) == [11]
    # What is on its way goes on; one more guess fits behind it.
    (head,) = items_of(effects)
    assert isinstance(head, HeadItem)
    assert (head.keep, head.tokens) == (8, (15,))
    ends(c, HeadDone(b"g"))
    (item,) = items_of(back(c, second))
    assert isinstance(item, TailItem)
    assert (item.keep, item.checked, item.guesses) == (4, 2, (12, 13))
    effects = ends(c, TailDone(word(13), accepted=(word(12),)))
    assert emitted(effects) == [12, 13]
    assert not [e for e in effects if isinstance(e, SendCancel)]


def test_a_wrong_guess_cancels_what_is_behind_it() -> None:
    c = guessing()
    first, second, third = begun(c)
    back(c, first)
    effects = ends(c, TailDone(word(77)))
    assert emitted(effects) == [77]
    assert [e for e in effects if isinstance(e, SendCancel)] == [
        SendCancel(SessionId(1), third.seq)
    ]
    (head,) = items_of(effects)
    assert isinstance(head, HeadItem)
    assert (head.keep, head.tokens[0]) == (4, 77)
    fresh = heads(c, effects)[0]
    assert (fresh.seq, fresh.keep) == (third.seq + 1, 4)
    # A stale window that comes back all the same is no fault, and takes no credit.
    given = c.returns.given
    effects = back(c, second)
    assert not [e for e in effects if isinstance(e, Failed | Refuse | Emit)]
    assert c.returns.given == given
    (item,) = items_of(back(c, fresh))
    assert isinstance(item, TailItem)
    assert (item.keep, item.guesses[0]) == (4, 78)


def test_a_session_that_ends_in_a_window_cancels_the_rest() -> None:
    c = guessing()
    first, _, third = begun(c)
    back(c, first)
    effects = ends(c, TailDone(Sampled(11, b"", "stop")))
    assert [type(e) for e in effects if isinstance(e, Finished | SendCancel)] == [
        *(Finished, SendCancel)
    ]
    assert SendCancel(SessionId(1), third.seq) in effects


def test_no_guess_is_sent_beyond_what_may_be_sampled() -> None:
    windows = begun(guessing(), tokens=3)
    # The third token is sampled behind position 4.
    assert sum(window.rows for window in windows) == 2


def test_ends_that_give_more_than_was_asked_for_are_not_believed() -> None:
    c = guessing()
    first, *_ = begun(c)
    back(c, first)
    effects = ends(c, TailDone(word(12), accepted=(word(11),)))
    assert [e.code for e in effects if isinstance(e, Failed)] == ["engine"]
