"""A stage between two epochs: what it keeps, sends again, and has lost."""

from __future__ import annotations

import msgspec

from atoll.domain.ids import Epoch, SessionId, Slot
from atoll.domain.wire import Rejoin, Window
from atoll.ring.stage import Stage
from atoll.ring.stage_messages import (
    BatchDone,
    EpochRaised,
    Forward,
    ForwardRecord,
    ForwardRejoin,
    RejoinArrived,
    RunBatch,
    StageConfig,
    WindowArrived,
)

OLD, NEW = Epoch(1, 1), Epoch(1, 2)
CONFIG = StageConfig(n_slots=2, context=32, rows_max=4, exact_rows_max=2, queue_max=64)
ONE, SLOT = SessionId(1), Slot(0)


def window(
    keep: int, rows: int, epoch: Epoch = OLD, *, seq: int = 0, replay: bool = False
) -> Window:
    return Window(ONE, SLOT, epoch, seq, keep, rows, "f16s", replay=replay)


def computed(stage: Stage, *windows: Window) -> None:
    for seq, w in enumerate(windows):
        effects = stage.handle(WindowArrived(msgspec.structs.replace(w, seq=seq), b"in"))
        assert any(isinstance(e, RunBatch) for e in effects)
        assert any(isinstance(e, Forward) for e in stage.handle(BatchDone((b"out",))))


def rejoin(tokens: int, *, lost: bool = False) -> Rejoin:
    return Rejoin(ONE, SLOT, NEW, tokens, lost=lost)


def test_it_goes_on_behind_what_it_holds() -> None:
    stage = Stage(CONFIG, OLD)
    computed(stage, window(0, 4), window(4, 2))
    stage.handle(EpochRaised(NEW, goes_on=True))
    assert stage.handle(RejoinArrived(rejoin(5))) == [ForwardRejoin(rejoin(5))]
    effects = stage.handle(WindowArrived(window(5, 1, NEW), b"in"))
    assert [e.items[0].keep for e in effects if isinstance(e, RunBatch)] == [5]


def test_a_new_downstream_is_sent_first_what_it_lacks() -> None:
    stage = Stage(CONFIG, OLD)
    computed(stage, window(0, 4), window(4, 2))
    stage.handle(EpochRaised(NEW, goes_on=True, next_is_new=True))
    effects = stage.handle(RejoinArrived(rejoin(5)))
    again = [e.window for e in effects if isinstance(e, ForwardRecord)]
    assert [(w.keep, w.rows, w.replay) for w in again] == [(0, 4, True), (4, 1, True)]
    assert effects[-1] == ForwardRejoin(rejoin(5))


def test_a_new_stage_computes_what_it_is_sent_and_says_nothing_of_it() -> None:
    stage = Stage(CONFIG, OLD)
    stage.handle(EpochRaised(NEW))
    effects = stage.handle(WindowArrived(window(0, 4, NEW, replay=True), b"in"))
    assert any(isinstance(e, RunBatch) for e in effects)
    assert not stage.handle(RejoinArrived(rejoin(4)))
    # Nothing goes on; the rejoin does, behind the computation.
    assert stage.handle(BatchDone((b"out",))) == [ForwardRejoin(rejoin(4))]


def test_where_the_next_is_new_too_it_passes_on_what_it_computed() -> None:
    stage = Stage(CONFIG, OLD)
    stage.handle(EpochRaised(NEW, next_is_new=True))
    stage.handle(WindowArrived(window(0, 4, NEW, replay=True), b"in"))
    stage.handle(RejoinArrived(rejoin(4)))
    forward, onward = stage.handle(BatchDone((b"out",)))
    assert isinstance(forward, Forward)
    assert forward.window.replay
    assert onward == ForwardRejoin(rejoin(4))


def test_a_session_of_which_something_is_missing_begins_anew() -> None:
    stage = Stage(CONFIG, OLD)
    computed(stage, window(0, 4))
    stage.handle(EpochRaised(NEW, goes_on=True))
    assert stage.handle(RejoinArrived(rejoin(5)))[-1] == ForwardRejoin(rejoin(5, lost=True))
    effects = stage.handle(WindowArrived(window(0, 2, NEW), b"in"))
    assert any(isinstance(e, RunBatch) for e in effects)


def test_what_the_engine_computed_for_the_old_epoch_is_dropped() -> None:
    stage = Stage(CONFIG, OLD)
    computed(stage, window(0, 4))
    stage.handle(WindowArrived(window(4, 1, seq=1), b"in"))
    stage.handle(EpochRaised(NEW, goes_on=True))
    assert not [e for e in stage.handle(BatchDone((b"late",))) if isinstance(e, Forward)]
    assert stage.handle(RejoinArrived(rejoin(4))) == [ForwardRejoin(rejoin(4))]
