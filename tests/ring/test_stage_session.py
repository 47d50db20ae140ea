from __future__ import annotations

from atoll.domain.ids import Epoch, SessionId, Slot
from atoll.domain.wire import Window
from atoll.ring.stage_session import StageSession


def window(seq: int, keep: int) -> Window:
    return Window(SessionId(1), Slot(2), Epoch(1, 1), seq, keep, 1, "f16s")


def code(session: StageSession, w: Window) -> str | None:
    fault = session.fault_of(w)
    return None if fault is None else fault.code


def test_the_next_window_continues_or_rolls_back() -> None:
    session = StageSession(SessionId(1), Slot(2), next_seq=3, held=5, end=7)
    assert [code(session, window(3, keep)) for keep in (7, 4, 0, 8)] == [None, None, None, "gap"]
    assert [code(session, window(seq, 7)) for seq in (2, 4, -1)] == ["seq", "seq", "seq"]


def test_cancelled_windows_may_be_missing() -> None:
    session = StageSession(SessionId(1), Slot(2), next_seq=3, end=7, cancelled=5)
    assert [code(session, window(seq, 7)) for seq in (6, 3, 7)] == [None, "seq", "seq"]
    assert [session.wants(window(seq, 7)) for seq in (5, 6)] == [False, True]


def test_a_broken_session_wants_nothing() -> None:
    session = StageSession(SessionId(1), Slot(2), broken=True)
    assert not session.wants(window(0, 0))
