"""What the ends answer is checked before it is believed."""

from __future__ import annotations

import pytest

from atoll.domain.generation import Sampled
from atoll.domain.ids import SessionId, Slot
from atoll.ring.coordinator_messages import TailDone, TailItem

WORD, LAST = Sampled(5, b"w"), Sampled(6, b"x", "length")


def item(*, chain: bool = False, last: bool = False, checked: int = 1) -> TailItem:
    where = (SessionId(1), Slot(0), 4, 2, b"r", False, "f16s")
    return TailItem(*where, sample=True, chain=chain, last=last, checked=checked)


@pytest.mark.parametrize(
    ("asked", "answer", "problem"),
    [
        (item(), TailDone(WORD), ""),
        (item(chain=True), TailDone(WORD, b"n"), ""),
        (item(last=True), TailDone(LAST), ""),
        (item(last=True, checked=2), TailDone(WORD), ""),
        (item(checked=2), TailDone(WORD, accepted=(WORD,)), ""),
        (item(), TailDone(), "no token"),
        (item(last=True), TailDone(WORD), "no token"),
        (item(chain=True), TailDone(WORD), "first layers"),
        (item(), TailDone(WORD, accepted=(WORD,)), "more than was asked"),
    ],
)
def test_answers(asked: TailItem, answer: TailDone, problem: str) -> None:
    found = answer.problem(asked)
    assert (problem in found) if problem else (found == "")
