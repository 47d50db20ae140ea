from __future__ import annotations

import pytest

from atoll.domain.ids import Epoch, SessionId, Slot
from atoll.domain.wire import Cancel, Window
from atoll.ring.stage_messages import BatchItem
from atoll.sim.traffic import BrokenInvariant
from atoll.sim.waits import Waits

EPOCH = Epoch(1, 1)


class At:
    """Stage 0 of a chain where windows of more than two rows are chunks."""

    def __init__(self) -> None:
        self.waits = Waits([2])

    def arrives(self, session: int, rows: int, keep: int = 0, follow: int = 0) -> None:
        window = Window(SessionId(session), Slot(session), EPOCH, 0, keep, rows, "f16s", follow)
        self.waits.arrived(0, window)

    def begins(self, session: int, rows: int, keep: int = 0) -> None:
        item = BatchItem(SessionId(session), Slot(session), keep, rows, False, "f16s", b"")
        self.waits.begins(0, [item])


def test_one_call_with_chunks_is_waited_for_and_no_second() -> None:
    at = At()
    at.arrives(1, 1)
    at.begins(2, 3)
    at.begins(1, 1)
    at.arrives(1, 1, keep=1)
    at.begins(2, 3)
    at.begins(2, 3)
    with pytest.raises(BrokenInvariant, match="session 1 waited for 2 calls"):
        at.begins(1, 1, keep=1)


def test_a_flight_waits_from_when_it_is_whole() -> None:
    at = At()
    at.arrives(1, 1, follow=1)
    at.begins(3, 3)
    at.arrives(2, 1)
    at.begins(3, 3)
    at.begins(1, 1)


def test_who_waits_for_its_own_chunk_is_excused() -> None:
    at = At()
    at.arrives(1, 3)
    at.arrives(1, 1, keep=3)
    for session in (2, 2, 1):
        at.begins(session, 3)
    at.begins(1, 1, keep=3)


def test_what_was_cancelled_or_lost_waits_no_more() -> None:
    at = At()
    at.arrives(1, 3)
    at.waits.arrived(0, Cancel(SessionId(1), EPOCH, 0))
    at.arrives(1, 1, keep=3)
    at.begins(2, 3)
    at.begins(2, 3)
    with pytest.raises(BrokenInvariant):
        at.begins(1, 1, keep=3)
    at.arrives(1, 1)
    at.begins(2, 3)
    at.waits.lost(0)
    at.begins(2, 3)
    at.begins(1, 1)
