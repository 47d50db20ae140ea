from __future__ import annotations

import pytest

from atoll.domain.ids import Epoch, SessionId, Slot
from atoll.domain.wire import Cancel, Release, Window
from atoll.ring.messages import GrantCredit, Granted, ItemFailed, Refuse, WindowUnusable
from atoll.ring.stage import Stage
from atoll.ring.stage_messages import (
    BatchDone,
    BatchFailed,
    BatchItem,
    CancelArrived,
    DropSlot,
    EpochRaised,
    Forward,
    ForwardCancel,
    ForwardRelease,
    ReleaseArrived,
    RunBatch,
    StageConfig,
    StageEffect,
    WindowArrived,
)

EPOCH = Epoch(1, 4)
CONFIG = StageConfig(
    n_slots=4,
    context=32,
    rows_max=8,
    exact_rows_max=4,
    credits=6,
    downstream_credits=6,
    queue_max=6,
    outbox_max=2,
)


def window(
    session: int = 1,
    seq: int = 0,
    keep: int = 0,
    rows: int = 1,
    *,
    slot: int | None = None,
    epoch: Epoch = EPOCH,
    encoding: str = "f16s",
    follow: int = 0,
    exact: bool = False,
) -> Window:
    """Sessions hold the slot of their own number unless told."""
    at = Slot(session if slot is None else slot)
    return Window(SessionId(session), at, epoch, seq, keep, rows, encoding, follow, exact)


def cancel(session: int, seq: int, epoch: Epoch = EPOCH) -> CancelArrived:
    return CancelArrived(Cancel(SessionId(session), epoch, seq))


def release(session: int, slot: int | None = None, epoch: Epoch = EPOCH) -> ReleaseArrived:
    at = Slot(session if slot is None else slot)
    return ReleaseArrived(Release(SessionId(session), at, epoch))


def put(stage: Stage, w: Window, payload: bytes = b"in") -> list[StageEffect]:
    return stage.handle(WindowArrived(w, payload))


def done(stage: Stage, *outputs: bytes | ItemFailed) -> list[StageEffect]:
    return stage.handle(BatchDone(outputs))


def item(w: Window, payload: bytes = b"in") -> BatchItem:
    return BatchItem(w.session, w.slot, w.keep, w.rows, w.exact, w.encoding, payload)


def batch_of(effects: list[StageEffect]) -> list[tuple[int, int]]:
    """(session, keep) of the batch that was started."""
    (run,) = [e for e in effects if isinstance(e, RunBatch)]
    return [(i.session, i.keep) for i in run.items]


def refusals(effects: list[StageEffect]) -> list[tuple[int, str, bool]]:
    return [(e.session, e.code, e.report) for e in effects if isinstance(e, Refuse)]


@pytest.fixture
def stage() -> Stage:
    return Stage(CONFIG, EPOCH)


def busy(stage: Stage) -> None:
    """Keep the engine busy with session 3."""
    assert batch_of(put(stage, window(3))) == [(3, 0)]


# The plain way


def test_a_window_is_computed_and_forwarded(stage: Stage) -> None:
    w = window(rows=3)
    assert put(stage, w, b"abc") == [RunBatch((item(w, b"abc"),)), GrantCredit(1)]
    assert done(stage, b"xyz") == [Forward(w, b"xyz")]


def test_a_session_goes_on_and_may_roll_back(stage: Stage) -> None:
    put(stage, window(rows=4))
    done(stage, b"o")
    assert batch_of(put(stage, window(seq=1, keep=4))) == [(1, 4)]
    done(stage, b"o")
    assert batch_of(put(stage, window(seq=2, keep=2, rows=2))) == [(1, 2)]
    done(stage, b"o")
    assert refusals(put(stage, window(seq=3, keep=5))) == [(1, "gap", True)]


def test_only_one_batch_runs_at_a_time(stage: Stage) -> None:
    busy(stage)
    assert put(stage, window(1)) == []
    assert done(stage, b"o") == [
        Forward(window(3), b"o"),
        RunBatch((item(window(1)),)),
        GrantCredit(1),
    ]


# Flights and batches


def test_a_flight_waits_for_its_last_window(stage: Stage) -> None:
    assert put(stage, window(1, follow=1)) == []
    effects = put(stage, window(2))
    assert batch_of(effects) == [(1, 0), (2, 0)]
    assert effects[-1] == GrantCredit(2)


def test_outputs_leave_as_one_flight(stage: Stage) -> None:
    busy(stage)
    put(stage, window(1))
    put(stage, window(2))
    assert batch_of(done(stage, b"o")) == [(1, 0), (2, 0)]
    assert done(stage, b"x", b"y") == [
        Forward(window(1, follow=1), b"x"),
        Forward(window(2, follow=0), b"y"),
    ]


def test_unequal_rows_and_modes_run_apart_oldest_first(stage: Stage) -> None:
    busy(stage)
    put(stage, window(0, rows=2))
    put(stage, window(1, exact=True, encoding="f32"))
    put(stage, window(2, rows=2))
    assert batch_of(done(stage, b"o")) == [(0, 0), (2, 0)]
    assert batch_of(done(stage, b"o", b"o")) == [(1, 0)]


def test_a_batch_has_at_most_rows_max(stage: Stage) -> None:
    busy(stage)
    for session in (0, 1, 2):
        put(stage, window(session, rows=3))
    assert batch_of(done(stage, b"o")) == [(0, 0), (1, 0)]
    assert batch_of(done(stage, b"o", b"o")) == [(2, 0)]


def test_windows_of_one_session_run_one_after_the_other(stage: Stage) -> None:
    busy(stage)
    put(stage, window(1, 0, 0, 2))
    put(stage, window(1, 1, 2, 1))
    put(stage, window(1, 2, 3, 2))
    put(stage, window(2, 0, 0, 2))
    assert batch_of(done(stage, b"o")) == [(1, 0), (2, 0)]
    assert batch_of(done(stage, b"o", b"o")) == [(1, 2)]
    assert batch_of(done(stage, b"o")) == [(1, 3)]


def test_a_refused_last_window_completes_its_flight(stage: Stage) -> None:
    put(stage, window(1, follow=1))
    effects = put(stage, window(2, seq=7))
    assert refusals(effects) == [(2, "seq", True)]
    assert batch_of(effects) == [(1, 0)]


def test_a_release_ends_an_unfinished_flight(stage: Stage) -> None:
    put(stage, window(1, follow=3))
    assert batch_of(stage.handle(release(2))) == [(1, 0)]


# Windows that are refused


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (window(slot=4), "slot"),
        (window(slot=-1), "slot"),
        (window(slot=2**62), "slot"),
        (window(rows=0), "rows"),
        (window(rows=-3), "rows"),
        (window(rows=9), "rows"),
        (window(rows=2**62), "rows"),
        (window(rows=5, exact=True, encoding="f32"), "rows"),
        (window(keep=-1), "keep"),
        (window(keep=32), "keep"),
        (window(keep=2**62), "keep"),
        (window(encoding="q2"), "encoding"),
        (window(exact=True), "encoding"),
        (window(follow=-1), "flight"),
        (window(follow=6), "flight"),
        (window(seq=1), "seq"),
        (window(seq=-1), "seq"),
        (window(keep=1), "gap"),
    ],
)
def test_a_bad_first_window_leaves_nothing_behind(stage: Stage, bad: Window, code: str) -> None:
    effects = put(stage, bad)
    assert refusals(effects) == [(1, code, True)]
    assert effects[1:] == [GrantCredit(1)]
    assert (stage.sessions, stage.queued) == (0, 0)
    assert batch_of(put(stage, window())) == [(1, 0)]


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (window(seq=0), "seq"),
        (window(seq=2, keep=2), "seq"),
        (window(seq=-5, keep=2), "seq"),
        (window(seq=1, keep=3), "gap"),
        (window(seq=1, keep=2, slot=2), "slot"),
        (window(seq=1, keep=2, rows=0), "rows"),
        (window(seq=1, keep=-2), "keep"),
        (window(seq=1, keep=2, encoding=""), "encoding"),
        (window(seq=1, keep=2, follow=99), "flight"),
    ],
)
def test_a_bad_window_breaks_its_session_alone(stage: Stage, bad: Window, code: str) -> None:
    put(stage, window(rows=2))
    done(stage, b"o")
    assert refusals(put(stage, bad)) == [(1, code, True)]
    # Later ones are answered, but the gateway hears of it once.
    assert refusals(put(stage, window(seq=1, keep=2))) == [(1, "broken", False)]
    assert batch_of(put(stage, window(2))) == [(2, 0)]
    assert stage.handle(release(1)) == [DropSlot(Slot(1)), ForwardRelease(release(1).release)]


@pytest.mark.parametrize("epoch", [Epoch(1, 3), Epoch(1, 5), Epoch(0, 9), Epoch(2**62, 2**62)])
def test_a_foreign_epoch_says_nothing_about_our_sessions(stage: Stage, epoch: Epoch) -> None:
    put(stage, window(rows=2))
    done(stage, b"o")
    effects = put(stage, window(seq=1, keep=2, epoch=epoch))
    assert refusals(effects) == [(1, "epoch", False)]
    assert len(effects) == 1
    assert refusals(stage.handle(cancel(1, 5, epoch))) == [(1, "epoch", False)]
    assert refusals(stage.handle(release(1, epoch=epoch))) == [(1, "epoch", False)]
    assert stage.epoch == EPOCH
    assert batch_of(put(stage, window(seq=1, keep=2))) == [(1, 2)]


def test_a_slot_of_another_session(stage: Stage) -> None:
    put(stage, window(1))
    assert refusals(put(stage, window(2, slot=1))) == [(2, "slot", True)]
    done(stage, b"o")
    assert batch_of(put(stage, window(1, 1, 1))) == [(1, 1)]


def test_a_window_without_credit(stage: Stage) -> None:
    busy(stage)
    for seq in range(6):
        assert put(stage, window(1, seq, seq)) == []
    assert stage.upstream_credits == 0
    effects = put(stage, window(2))
    assert refusals(effects) == [(2, "credit", True)]
    assert len(effects) == 1
    assert stage.queued == 6


def test_what_the_driver_finds_unusable(stage: Stage) -> None:
    put(stage, window(rows=2))
    done(stage, b"o")
    effects = stage.handle(WindowUnusable(window(seq=1, keep=2), "payload", "too short"))
    assert effects == [
        Refuse(SessionId(1), 1, "payload", "too short"),
        GrantCredit(1),
    ]
    assert refusals(put(stage, window(seq=2, keep=2))) == [(1, "broken", False)]


def test_a_break_drops_what_the_session_has_queued(stage: Stage) -> None:
    busy(stage)
    put(stage, window(1))
    put(stage, window(1, 1, 1))
    effects = put(stage, window(1, 9, 2))
    assert refusals(effects) == [(1, "seq", True)]
    assert effects[-1] == GrantCredit(3)
    assert stage.queued == 0


# Engine


def test_a_failed_batch_breaks_its_sessions(stage: Stage) -> None:
    put(stage, window(1, follow=1))
    put(stage, window(2))
    assert put(stage, window(3)) == []
    effects = stage.handle(BatchFailed("out of memory"))
    assert refusals(effects) == [(1, "engine", True), (2, "engine", True)]
    assert batch_of(effects) == [(3, 0)]


def test_a_failed_item_breaks_only_its_session(stage: Stage) -> None:
    put(stage, window(1, follow=1))
    put(stage, window(2))
    effects = done(stage, ItemFailed("not a number"), b"o")
    assert refusals(effects) == [(1, "engine", True)]
    assert effects[1:] == [Forward(window(2), b"o")]


def test_a_wrong_number_of_outputs_is_a_failure(stage: Stage) -> None:
    put(stage, window(1))
    assert refusals(done(stage, b"o", b"o")) == [(1, "engine", True)]


# Credits and back-pressure


def test_nothing_is_forwarded_without_a_credit() -> None:
    stage = Stage(StageConfig(4, 32, 8, downstream_credits=1, outbox_max=1), EPOCH)
    put(stage, window(1))
    assert done(stage, b"a") == [Forward(window(1), b"a")]
    put(stage, window(2))
    assert done(stage, b"b") == []
    # One output waits: the outbox is full, the engine rests.
    assert put(stage, window(3)) == []
    assert (stage.queued, stage.outbox) == (1, 1)
    effects = stage.handle(Granted(1))
    assert effects[0] == Forward(window(2), b"b")
    assert batch_of(effects) == [(3, 0)]


def test_a_flight_larger_than_the_credits_leaves_in_parts() -> None:
    stage = Stage(StageConfig(4, 32, 8, downstream_credits=2), EPOCH)
    for session in (0, 1, 2):
        put(stage, window(session, follow=2 - session))
    assert done(stage, b"a", b"b", b"c") == [
        Forward(window(0, follow=1), b"a"),
        Forward(window(1, follow=0), b"b"),
    ]
    assert stage.handle(Granted(5)) == [Forward(window(2), b"c")]


@pytest.mark.parametrize("frames", [-4, 0, 2**62])
def test_a_downstream_cannot_grant_what_was_not_agreed(stage: Stage, frames: int) -> None:
    put(stage, window(1))
    done(stage, b"o")
    stage.handle(Granted(frames))
    assert stage.downstream_credits == (6 if frames > 0 else 5)


# Cancel and release


def test_a_cancel_overtakes_and_drops_what_waits(stage: Stage) -> None:
    busy(stage)
    put(stage, window(1))
    put(stage, window(1, 1, 1))
    put(stage, window(2))
    effects = stage.handle(cancel(1, 1))
    assert effects == [ForwardCancel(cancel(1, 1).cancel), GrantCredit(2)]
    assert batch_of(done(stage, b"o")) == [(2, 0)]


def test_a_cancelled_window_in_the_engine_goes_no_further(stage: Stage) -> None:
    put(stage, window(1, rows=2))
    stage.handle(cancel(1, 0))
    assert done(stage, b"o") == []
    assert batch_of(put(stage, window(1, 1, 2))) == [(1, 2)]


def test_cancelled_windows_in_the_outbox_are_dropped() -> None:
    stage = Stage(StageConfig(4, 32, 8, downstream_credits=1), EPOCH)
    for session in (0, 1, 2):
        put(stage, window(session, follow=2 - session))
    done(stage, b"a", b"b", b"c")
    stage.handle(cancel(1, 0))
    assert stage.handle(Granted(1)) == [Forward(window(2), b"c")]


def test_after_a_cancel_the_next_window_may_skip_what_was_dropped(stage: Stage) -> None:
    put(stage, window(1, rows=2))
    done(stage, b"o")
    stage.handle(cancel(1, 3))
    # A stale one is dropped without a word, and its credit goes back.
    assert put(stage, window(1, 1, 2)) == [GrantCredit(1)]
    assert batch_of(put(stage, window(1, 4, 2))) == [(1, 2)]


def test_dropped_positions_are_not_held(stage: Stage) -> None:
    busy(stage)
    put(stage, window(1, 0, 0, 4))
    stage.handle(cancel(1, 0))
    assert refusals(put(stage, window(1, 1, 4))) == [(1, "gap", True)]


def test_a_cancel_that_leaves_a_gap_in_the_queue_breaks_the_session(stage: Stage) -> None:
    busy(stage)
    put(stage, window(1, 0, 0, 4))
    put(stage, window(1, 1, 4))
    effects = stage.handle(cancel(1, 0))
    assert refusals(effects) == [(1, "gap", True)]
    assert effects[-1] == GrantCredit(2)


def test_a_release_waits_for_the_sessions_windows(stage: Stage) -> None:
    put(stage, window(1))
    put(stage, window(1, 1, 1))
    assert stage.handle(release(1)) == []
    assert batch_of(done(stage, b"o")) == [(1, 1)]
    assert done(stage, b"p") == [
        Forward(window(1, 1, 1), b"p"),
        DropSlot(Slot(1)),
        ForwardRelease(release(1).release),
    ]
    assert stage.sessions == 0


def test_a_cancelled_release_waits_for_the_engine_only(stage: Stage) -> None:
    put(stage, window(1))
    put(stage, window(1, 1, 1))
    stage.handle(cancel(1, 1))
    assert stage.handle(release(1)) == []
    assert done(stage, b"o") == [DropSlot(Slot(1)), ForwardRelease(release(1).release)]


def test_a_release_of_an_unknown_session_goes_round(stage: Stage) -> None:
    put(stage, window(1))
    assert stage.handle(release(9, slot=1)) == [ForwardRelease(release(9, slot=1).release)]
    assert stage.sessions == 1


def test_bad_releases(stage: Stage) -> None:
    put(stage, window(1))
    assert refusals(stage.handle(release(1, slot=2))) == [(1, "released", True)]
    stage.handle(release(1))
    assert refusals(stage.handle(release(1))) == [(1, "released", True)]
    assert stage.handle(cancel(7, 3)) == [ForwardCancel(cancel(7, 3).cancel)]


def test_no_window_comes_after_a_release(stage: Stage) -> None:
    put(stage, window(1))
    stage.handle(release(1))
    assert refusals(put(stage, window(1, 1, 1))) == [(1, "released", True)]
    done(stage, b"o")
    assert refusals(put(stage, window(1))) == [(1, "released", True)]
    assert batch_of(put(stage, window(2, slot=1))) == [(2, 0)]


# Epochs


def test_a_new_epoch_drops_everything() -> None:
    stage = Stage(StageConfig(4, 32, 8, credits=4, downstream_credits=1, queue_max=4), EPOCH)
    put(stage, window(1, follow=1))
    put(stage, window(2))
    done(stage, b"o", b"o")
    put(stage, window(3))
    put(stage, window(0))
    raised = Epoch(1, 5)
    assert stage.handle(EpochRaised(raised)) == [DropSlot(Slot(s)) for s in range(4)]
    assert (stage.sessions, stage.queued, stage.outbox) == (0, 0, 0)
    assert (stage.upstream_credits, stage.downstream_credits) == (4, 1)
    # The engine still works on the old batch: the new one waits, the old result is lost.
    w = window(1, epoch=raised)
    assert put(stage, w) == []
    assert done(stage, b"old") == [RunBatch((item(w),)), GrantCredit(1)]
    assert done(stage, b"new") == [Forward(w, b"new")]


@pytest.mark.parametrize("epoch", [EPOCH, Epoch(1, 3), Epoch(0, 99)])
def test_an_epoch_never_goes_back(stage: Stage, epoch: Epoch) -> None:
    put(stage, window(1))
    assert stage.handle(EpochRaised(epoch)) == []
    assert (stage.epoch, stage.sessions) == (EPOCH, 1)


# Hostile upstreams


def test_strangers_do_not_grow_memory(stage: Stage) -> None:
    for session in range(500):
        put(stage, window(1000 + session, slot=session % 4, seq=session % 2))
        if stage.running:
            done(stage, b"o")
        stage.handle(Granted(1))
    assert stage.sessions <= CONFIG.n_slots
    assert stage.queued <= CONFIG.queue_max


def test_an_endless_flight_is_bounded(stage: Stage) -> None:
    for seq in range(50):
        put(stage, window(1, seq, seq % 30, follow=1))
    assert stage.queued <= CONFIG.queue_max
