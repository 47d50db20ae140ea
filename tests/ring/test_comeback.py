"""The gateway between two epochs: sessions wait, and go on behind what was everywhere."""

from __future__ import annotations

import msgspec
from tests.ring.test_coordinator import (
    EPOCH,
    WORD,
    back,
    decoding,
    ends,
    entered,
    items_of,
    sent,
    submit,
    up,
)

from atoll.domain.ids import Epoch, SessionId, Slot
from atoll.domain.wire import Rejoin
from atoll.ring.comeback_messages import RejoinReturned, RingPaused, SendRecord, SendRejoin
from atoll.ring.coordinator_messages import (
    CancelSession,
    Emit,
    Failed,
    HeadDone,
    RingDown,
    RingUp,
    SendRelease,
    TailDone,
)

NEXT = Epoch(EPOCH.incarnation, EPOCH.counter + 1)


def test_a_session_goes_on_behind_its_last_token() -> None:
    c = up()
    decoding(c, 1)
    assert not [e for e in c.handle(RingPaused()) if isinstance(e, Failed)]
    effects = c.handle(RingUp(NEXT, goes_on=True))
    assert SendRejoin(SessionId(1), Slot(0), 3) in effects
    effects = c.handle(RejoinReturned(Rejoin(SessionId(1), Slot(0), NEXT, 3)))
    [item] = items_of(effects)
    assert item.keep == 3
    [window] = sent(ends(c, HeadDone(b"row")))
    assert (window.seq, window.keep, window.rows, window.epoch) == (0, 3, 1, NEXT)
    back(c, window)
    assert Emit(SessionId(1), WORD) in ends(c, TailDone(WORD, b"row"))


def test_a_session_that_a_stage_lost_enters_anew_with_its_tokens() -> None:
    c = up()
    decoding(c, 1)
    c.handle(RingPaused())
    c.handle(RingUp(NEXT, goes_on=True))
    lost = Rejoin(SessionId(1), Slot(0), NEXT, 3, lost=True)
    [item] = items_of(c.handle(RejoinReturned(lost)))
    assert (item.keep, item.tokens) == (0, (0, 1, 2, WORD.token))  # type: ignore[union-attr]


def test_a_new_first_stage_is_sent_again_what_it_lacks() -> None:
    c = up()
    decoding(c, 1)
    c.handle(RingPaused())
    effects = c.handle(RingUp(NEXT, goes_on=True, first_is_new=True))
    again = [e.window for e in effects if isinstance(e, SendRecord)]
    assert [(w.keep, w.rows, w.replay) for w in again] == [(0, 3, True)]
    assert effects.index(SendRecord(again[0])) < effects.index(SendRejoin(SessionId(1), Slot(0), 3))


def test_tokens_that_the_ends_find_meanwhile_count() -> None:
    c = up()
    window = decoding(c, 1)
    back(c, window)
    c.handle(RingPaused())
    # The ends are at it: the ring is not told before they have answered.
    assert not [e for e in c.handle(RingUp(NEXT, goes_on=True)) if isinstance(e, SendRejoin)]
    effects = ends(c, TailDone(WORD, b"row"))
    assert Emit(SessionId(1), WORD) in effects
    assert SendRejoin(SessionId(1), Slot(0), 4) in effects


def test_who_leaves_meanwhile_is_released_in_the_new_epoch() -> None:
    c = up()
    decoding(c, 1)
    c.handle(RingPaused())
    effects = c.handle(CancelSession(SessionId(1), "gone"))
    assert [type(e) for e in effects if isinstance(e, Failed | SendRelease)] == [Failed]
    assert SendRelease(SessionId(1), Slot(0)) in c.handle(RingUp(NEXT, goes_on=True))


def test_newcomers_wait_while_the_ring_is_mended() -> None:
    c = up()
    c.handle(RingPaused())
    assert submit(c, 1) == []
    c.handle(RingUp(NEXT, goes_on=True))
    assert c.active == 1


def test_a_ring_that_does_not_come_back_ends_its_sessions() -> None:
    c = up()
    entered(c, 1)
    c.handle(RingPaused())
    codes = [e.code for e in c.handle(RingDown("nobody took it")) if isinstance(e, Failed)]
    assert codes == ["ring_down"]
    assert msgspec.structs.asdict(RingUp(NEXT))["goes_on"] is False
