"""Items for the ends process and its answers."""

from __future__ import annotations

from atoll.domain.generation import Sampled
from atoll.domain.ids import SessionId, Slot
from atoll.engine.ends_messages import Head, ItemResult, ItemsDone, Tail
from atoll.gateway.ends_items import answered, asked
from atoll.ring.coordinator_messages import HeadDone, HeadItem, TailDone, TailItem
from atoll.ring.messages import ItemFailed

ONE, TWO = Sampled(1, b"a"), Sampled(2, b"b")
HEAD = HeadItem(SessionId(1), Slot(0), 4, (7, 8), False, "f16s")
TAIL = TailItem(
    SessionId(2),
    Slot(1),
    9,
    2,
    b"rows",
    exact=True,
    encoding="f32",
    sample=True,
    chain=False,
    last=False,
    checked=2,
    guesses=(1,),
)


def test_there() -> None:
    items, payloads = asked([HEAD, TAIL])
    assert items == (
        Head(0, 4, False, "f16s", (7, 8)),
        Tail(1, 9, True, "f32", 2, sample=True, chain=False, last=False, checked=2, guesses=(1,)),
    )
    assert payloads == [b"rows"]


def test_and_back() -> None:
    results = (ItemResult(size=3), ItemResult(sampled=TWO, accepted=(ONE,)))
    done = ItemsDone(1, results, 0.0, 0.0)
    assert answered([HEAD, TAIL], done, b"abc") == (HeadDone(b"abc"), TailDone(TWO, None, (ONE,)))
    failed = ItemsDone(1, (ItemResult("no"), ItemResult(sampled=ONE, size=2)), 0.0, 0.0)
    assert answered([HEAD, TAIL], failed, b"xy") == (ItemFailed("no"), TailDone(ONE, b"xy"))
