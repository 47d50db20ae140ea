"""Conversations leave the slots as parcels and come back: scripts of events and effects."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from tests.ring.test_coordinator import EPOCH, back, ends, sent, submit
from tests.ring.test_tenants import CONFIG

from atoll.domain.generation import GenerateRequest, Sampled
from atoll.domain.ids import Epoch, SessionId, Slot
from atoll.domain.wire import Park, Release, Resume
from atoll.ring.coordinator import Coordinator
from atoll.ring.coordinator_messages import (
    Admitted,
    CancelSession,
    CloseEnds,
    CoordinatorEffect,
    Failed,
    Forget,
    HeadDone,
    OpenEnds,
    ReleaseReturned,
    RingDown,
    RingUp,
    RunEnds,
    SendRelease,
    TailDone,
)
from atoll.ring.parking import Parking, ParkingRates
from atoll.ring.parking_messages import (
    DropEndsParcel,
    EndsLoadedParcel,
    LoadEnds,
    ParkEnds,
    ResumeReturned,
    Reused,
    SendDiscard,
    SendPark,
    SendResume,
    Tick,
)

RATES = ParkingRates(bytes_per_token=1, tier_bytes_s=1e9, prefill_tokens_s=10)
PARKING = Parking(RATES, held_max=1000, tokens_max=1000)
FIRST, SECOND = (1, 2, 3, 4, 5, 6), (11, 12, 13, 14, 15, 16)
ONE, TWO, THREE, SLOT = SessionId(1), SessionId(2), SessionId(3), Slot(0)


def up(**changes: Any) -> Coordinator:
    c = Coordinator(dataclasses.replace(CONFIG, n_slots=1, parking=PARKING, **changes))
    c.handle(RingUp(EPOCH))
    return c


def asks(*tokens: int) -> GenerateRequest:
    return GenerateRequest(tokens, 1)


def runs(c: Coordinator) -> None:
    """The session whose prompt has just begun samples its one token, 50."""
    (window,) = sent(ends(c, HeadDone(b"h")))
    back(c, window)
    ends(c, TailDone(Sampled(50, b"", "length")))


def talked(c: Coordinator, session: int, *tokens: int) -> None:
    submit(c, session, asks(*tokens))
    runs(c)


def parked(session: SessionId = ONE, tokens: int = 6) -> ReleaseReturned:
    return ReleaseReturned(Park(session, SLOT, EPOCH, tokens))


def resumed(session: SessionId, *, lost: bool = False) -> ResumeReturned:
    return ResumeReturned(Resume(session, SLOT, EPOCH, ONE, 6, lost))


def one_parked(c: Coordinator) -> None:
    """The first conversation is parked, the second has the slot and rests."""
    talked(c, 1, *FIRST)
    submit(c, 2, asks(*SECOND))
    c.handle(parked())
    runs(c)


def test_what_rests_is_parked_when_its_slot_is_wanted() -> None:
    c = up()
    talked(c, 1, *FIRST)
    assert submit(c, 2, asks(*SECOND)) == [ParkEnds(ONE, SLOT, 6), SendPark(ONE, SLOT, 6)]
    assert (c.waiting, c.lot.parked) == (1, 0)
    effects = c.handle(parked())
    assert effects[:2] == [Admitted(TWO), OpenEnds(TWO, SLOT, asks(*SECOND))]
    assert (c.waiting, c.lot.parked, c.lot.parked_tokens) == (0, 1, 6)


def test_a_parked_conversation_goes_on() -> None:
    c = up()
    one_parked(c)
    # The slot is made free for it first.
    again = asks(*FIRST, 50, 7, 8)
    assert submit(c, 3, again) == [ParkEnds(TWO, SLOT, 6), SendPark(TWO, SLOT, 6)]
    assert c.handle(parked(TWO)) == [
        Admitted(THREE),
        OpenEnds(THREE, SLOT, again),
        LoadEnds(THREE, SLOT, ONE, 6),
        SendResume(THREE, SLOT, ONE, 6),
    ]
    assert c.handle(resumed(THREE)) == []
    effects = c.handle(EndsLoadedParcel(THREE, True))
    assert effects[:3] == [Reused(THREE, 6), DropEndsParcel(ONE), SendDiscard(ONE)]
    (run,) = [effect for effect in effects if isinstance(effect, RunEnds)]
    assert [(item.keep, item.session) for item in run.items] == [(6, THREE)]
    assert c.lot.parked == 1
    runs(c)


@pytest.mark.parametrize("where", ["ends", "ring", "both"])
def test_a_parcel_that_is_lost_is_computed_from_the_beginning(where: str) -> None:
    c = up()
    one_parked(c)
    submit(c, 3, asks(*FIRST, 50, 7, 8))
    c.handle(parked(TWO))
    c.handle(EndsLoadedParcel(THREE, where == "ring"))
    effects = c.handle(resumed(THREE, lost=where != "ends"))
    assert effects[:2] == [DropEndsParcel(ONE), SendDiscard(ONE)]
    assert not any(isinstance(effect, Reused) for effect in effects)
    (run,) = [effect for effect in effects if isinstance(effect, RunEnds)]
    assert [item.keep for item in run.items] == [0]
    runs(c)


def test_a_client_that_leaves_while_its_parcel_comes() -> None:
    c = up()
    one_parked(c)
    submit(c, 3, asks(*FIRST, 50, 7, 8))
    c.handle(parked(TWO))
    effects = c.handle(CancelSession(THREE, "left"))
    assert isinstance(effects[0], Failed)
    # Stages know it already; the ends are cleared once they have loaded.
    assert effects[1:] == [SendRelease(THREE, SLOT)]
    assert c.handle(resumed(THREE)) == []
    assert c.handle(EndsLoadedParcel(THREE, True)) == [CloseEnds(THREE, SLOT)]
    assert c.holders() == {SLOT: THREE}
    c.handle(ReleaseReturned(Release(THREE, SLOT, EPOCH)))
    assert (c.holders(), c.lot.parked) == ({}, 2)


def test_answers_of_nobody_change_nothing() -> None:
    c = up()
    talked(c, 1, *FIRST)
    for event in (
        EndsLoadedParcel(ONE, True),
        EndsLoadedParcel(TWO, True),
        resumed(ONE),
        resumed(THREE),
        ResumeReturned(Resume(ONE, SLOT, Epoch(9, 9), ONE, 6)),
    ):
        assert c.handle(event) == []
    assert (c.resting, c.holders()) == (1, {SLOT: ONE})


def test_what_rests_for_long_is_parked_unasked() -> None:
    c = up()
    talked(c, 1, *FIRST)
    assert c.handle(Tick()) == []
    assert c.handle(Tick()) == [ParkEnds(ONE, SLOT, 6), SendPark(ONE, SLOT, 6)]
    assert c.handle(Tick()) == []
    c.handle(parked())
    assert (c.lot.parked, c.resting, c.active) == (1, 0, 0)


def test_what_is_not_worth_parking_stays_or_is_written_over() -> None:
    c = up()
    talked(c, 1, *FIRST)
    c.handle(Tick(dataclasses.replace(RATES, prefill_tokens_s=1e12)))
    assert c.handle(Tick()) == []
    effects = submit(c, 2, asks(*SECOND))
    assert effects[0] == Admitted(TWO, 0, ONE)
    assert c.lot.parked == 0


def test_where_nobody_may_wait_what_rests_is_written_over() -> None:
    c = up(waiting_max=0)
    talked(c, 1, *FIRST)
    assert submit(c, 2, asks(*SECOND))[0] == Admitted(TWO, 0, ONE)


def test_a_little_that_is_shared_does_not_take_a_conversation_from_its_slot() -> None:
    c = up(reuse_min=1)
    talked(c, 1, *FIRST)
    # Two of six tokens, as of a system prompt; with four it is the conversation itself.
    assert submit(c, 2, asks(1, 2, 77, 78))[0] == ParkEnds(ONE, SLOT, 6)
    other = up(reuse_min=1)
    talked(other, 1, *FIRST)
    assert submit(other, 2, asks(1, 2, 3, 4, 77))[0] == Admitted(TWO, 4, ONE)


def test_parcels_beyond_the_bound_are_discarded() -> None:
    c = up()
    c = Coordinator(
        dataclasses.replace(c.config, parking=dataclasses.replace(PARKING, held_max=11))
    )
    c.handle(RingUp(EPOCH))
    one_parked(c)
    submit(c, 3, asks(21, 22, 23, 24))
    effects = c.handle(parked(TWO))
    assert effects[:2] == [DropEndsParcel(ONE), SendDiscard(ONE)]
    assert c.lot.parked == 1


def discarded(effects: list[CoordinatorEffect]) -> list[SessionId]:
    return [effect.parcel for effect in effects if isinstance(effect, DropEndsParcel)]


def test_nothing_is_parked_any_more_once_the_ring_is_gone() -> None:
    c = up()
    one_parked(c)
    submit(c, 3, asks(31, 32, 33, 34))
    # One is parked, another on its way.
    assert discarded(c.handle(RingDown("a stage died"))) == [ONE, TWO]
    assert (c.lot.parked, c.holders()) == (0, {})
    c.handle(RingUp(Epoch(EPOCH.incarnation, EPOCH.counter + 1)))
    assert submit(c, 4, asks(*FIRST, 50, 7))[0] == Admitted(SessionId(4))


def test_a_ring_that_goes_while_a_parcel_comes() -> None:
    c = up()
    one_parked(c)
    submit(c, 3, asks(*FIRST, 50, 7, 8))
    c.handle(parked(TWO))
    c.handle(RingDown("a stage died"))
    assert c.holders() == {SLOT: THREE}
    assert c.handle(EndsLoadedParcel(THREE, True)) == [CloseEnds(THREE, SLOT)]
    assert c.holders() == {}


def test_forgetting_takes_parcels_too() -> None:
    c = up()
    one_parked(c)
    effects = c.handle(Forget())
    assert effects[:2] == [DropEndsParcel(ONE), SendDiscard(ONE)]
    assert SendRelease(TWO, SLOT) in effects
