"""Sessions that leave a stage as parcels and begin with one: a script of events and effects."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from atoll.domain.ids import Epoch, SessionId, Slot
from atoll.domain.wire import Cancel, Discard, Park, Release, Resume, Window
from atoll.ring.messages import GrantCredit, Refuse
from atoll.ring.stage import Stage
from atoll.ring.stage_messages import (
    BatchDone,
    BatchFailed,
    CancelArrived,
    DiscardArrived,
    DropParcel,
    DropSlot,
    EpochRaised,
    FetchParcel,
    Forward,
    ForwardDiscard,
    ForwardRelease,
    ForwardResume,
    LoadParcel,
    ParcelFetched,
    ParcelLoaded,
    ReleaseArrived,
    ResumeArrived,
    RunBatch,
    StageConfig,
    StageEffect,
    TakeParcel,
    WindowArrived,
)

EPOCH = Epoch(1, 4)
OLD, NEW = SessionId(7), SessionId(9)
SLOT = Slot(2)
PARK = Park(OLD, SLOT, EPOCH, 5)
RESUME = Resume(NEW, SLOT, EPOCH, OLD, 5)


def window(session: SessionId, seq: int, keep: int, rows: int) -> Window:
    return Window(session, SLOT, EPOCH, seq, keep, rows, "f16s")


@pytest.fixture
def stage() -> Stage:
    return Stage(StageConfig(n_slots=4, context=32, rows_max=8), EPOCH)


def compute(stage: Stage, w: Window) -> list[StageEffect]:
    stage.handle(WindowArrived(w, b"in"))
    return stage.handle(BatchDone((b"out",)))


def test_a_session_at_rest_leaves_as_a_parcel(stage: Stage) -> None:
    compute(stage, window(OLD, 0, 0, 6))
    assert stage.handle(ReleaseArrived(PARK)) == [TakeParcel(SLOT, OLD, 5), ForwardRelease(PARK)]
    assert stage.sessions == 0


def test_it_leaves_behind_what_is_on_its_way(stage: Stage) -> None:
    compute(stage, window(OLD, 0, 0, 6))
    stage.handle(WindowArrived(window(OLD, 1, 6, 1), b"in"))
    stage.handle(CancelArrived(Cancel(OLD, EPOCH, 1)))
    assert stage.handle(ReleaseArrived(PARK)) == []
    assert stage.handle(BatchDone((b"out",))) == [TakeParcel(SLOT, OLD, 5), ForwardRelease(PARK)]


def test_caches_that_lack_something_make_no_parcel(stage: Stage) -> None:
    compute(stage, window(OLD, 0, 0, 4))
    assert stage.handle(ReleaseArrived(PARK)) == [DropSlot(SLOT), ForwardRelease(PARK)]
    # Nor do those of a session that was refused; nobody's are passed on.
    compute(stage, window(NEW, 0, 0, 6))
    stage.handle(WindowArrived(window(NEW, 1, 6, 1), b"in"))
    stage.handle(BatchFailed("injected"))
    park = replace(PARK, session=NEW)
    assert stage.handle(ReleaseArrived(park)) == [DropSlot(SLOT), ForwardRelease(park)]
    stray = replace(PARK, session=SessionId(1))
    assert stage.handle(ReleaseArrived(stray)) == [ForwardRelease(stray)]


def test_a_session_begins_with_a_parcel(stage: Stage) -> None:
    assert stage.handle(ResumeArrived(RESUME)) == [FetchParcel(NEW, OLD)]
    load = LoadParcel(NEW, SLOT, OLD, 5, b"parcel")
    assert stage.handle(ParcelFetched(NEW, b"parcel")) == [load]
    assert stage.handle(ParcelLoaded(NEW, is_loaded=True)) == [ForwardResume(RESUME)]
    # It goes on from any position of what was put in, by its first window.
    effects = stage.handle(WindowArrived(window(NEW, 0, 4, 2), b"in"))
    assert [type(effect) for effect in effects] == [RunBatch, GrantCredit]
    assert [type(e) for e in stage.handle(BatchDone((b"out",)))] == [Forward]


def test_a_session_may_begin_anew_all_the_same(stage: Stage) -> None:
    stage.handle(ResumeArrived(RESUME))
    stage.handle(ParcelFetched(NEW, b"parcel"))
    stage.handle(ParcelLoaded(NEW, is_loaded=True))
    assert compute(stage, window(NEW, 0, 0, 2)) != []
    assert stage.handle(ReleaseArrived(Release(NEW, SLOT, EPOCH)))[0] == DropSlot(SLOT)


@pytest.mark.parametrize("at", ["keeper", "engine", "upstream"])
def test_a_parcel_that_is_lost(stage: Stage, at: str) -> None:
    lost = replace(RESUME, lost=True)
    if at == "upstream":
        effects = stage.handle(ResumeArrived(lost))
    else:
        stage.handle(ResumeArrived(RESUME))
        effects = stage.handle(ParcelFetched(NEW, None if at == "keeper" else b"changed"))
        if at == "engine":
            effects = stage.handle(ParcelLoaded(NEW, is_loaded=False))
    assert effects == [ForwardResume(lost)]
    # The session has begun: with nothing.
    refused = stage.handle(WindowArrived(window(NEW, 0, 4, 2), b"in"))
    assert [effect.code for effect in refused if isinstance(effect, Refuse)] == ["gap"]


def test_it_begins_with_nothing_where_the_parcel_is_lost(stage: Stage) -> None:
    stage.handle(ResumeArrived(replace(RESUME, lost=True)))
    assert [type(e) for e in compute(stage, window(NEW, 0, 0, 2))] == [Forward]


def test_a_release_waits_for_the_parcel(stage: Stage) -> None:
    """The client has left: what is loading is put in and cleared again."""
    release = Release(NEW, SLOT, EPOCH)
    stage.handle(ResumeArrived(RESUME))
    assert stage.handle(ReleaseArrived(release)) == []
    stage.handle(ParcelFetched(NEW, b"parcel"))
    assert stage.handle(ParcelLoaded(NEW, is_loaded=True)) == [
        ForwardResume(RESUME),
        DropSlot(SLOT),
        ForwardRelease(release),
    ]


def test_an_epoch_that_ends_takes_the_waiting_with_it(stage: Stage) -> None:
    stage.handle(ResumeArrived(RESUME))
    assert stage.handle(EpochRaised(Epoch(1, 5))) == [DropSlot(SLOT)]
    assert stage.handle(ParcelFetched(NEW, b"parcel")) == []
    assert stage.handle(ParcelLoaded(NEW, is_loaded=True)) == []
    assert codes(stage.handle(ResumeArrived(RESUME))) == [("epoch", False)]


def codes(effects: list[StageEffect]) -> list[tuple[str, bool]]:
    return [(effect.code, effect.report) for effect in effects if isinstance(effect, Refuse)]


def test_what_cannot_be_resumed_is_refused_and_reported(stage: Stage) -> None:
    compute(stage, window(OLD, 0, 0, 6))
    assert codes(stage.handle(ResumeArrived(RESUME))) == [("slot", True)]
    other = replace(RESUME, slot=Slot(1), session=OLD)
    assert codes(stage.handle(ResumeArrived(other))) == [("seq", True)]
    beyond = [replace(RESUME, slot=Slot(4)), replace(RESUME, slot=Slot(1), tokens=33)]
    assert [codes(stage.handle(ResumeArrived(r))) for r in beyond] == [[("keep", True)]] * 2
    stage.handle(ReleaseArrived(PARK))
    replayed = replace(RESUME, session=OLD)
    assert codes(stage.handle(ResumeArrived(replayed))) == [("released", True)]
    assert stage.sessions == 0


def test_a_parcel_that_nobody_wants_is_dropped(stage: Stage) -> None:
    discard = Discard(OLD, EPOCH)
    expected = [DropParcel(OLD), ForwardDiscard(discard)]
    assert stage.handle(DiscardArrived(discard)) == expected
    stale = stage.handle(DiscardArrived(replace(discard, epoch=Epoch(1, 3))))
    assert codes(stale) == [("epoch", False)]
