"""Whose window is next at a stage."""

from __future__ import annotations

from atoll.domain.ids import Epoch, SessionId, Slot
from atoll.domain.wire import Window
from atoll.ring.stage_messages import StageConfig
from atoll.ring.stage_session import StageSession
from atoll.ring.stage_turns import Held, StageTurns

CONFIG = StageConfig(n_slots=8, context=64, rows_max=16, light_rows=2)


def held(session: int, rows: int, keep: int = 0) -> Held:
    of = StageSession(SessionId(session), Slot(session))
    window = Window(of.id, of.slot, Epoch(1, 1), 0, keep, rows, "f16s")
    return Held(of, window, b"")


class Queue:
    """A stage's queue; `next` computes a batch, while which others may come."""

    def __init__(self, *waiting: Held) -> None:
        self.waiting = list(waiting)
        self.turns = StageTurns(CONFIG)

    def next(self, *came: Held) -> list[int]:
        batch, self.waiting = self.turns.take(self.waiting)
        self.waiting += came
        self.turns.over(batch, self.waiting)
        return [one.window.session for one in batch]


def test_like_goes_with_like_and_the_oldest_first() -> None:
    queue = Queue(held(1, 1), held(2, 2), held(3, 1), held(1, 1, keep=1), held(4, 2))
    assert [queue.next() for _ in range(3)] == [[1, 3], [2, 4], [1]]


def test_what_waits_behind_a_chunk_passes_the_next_one() -> None:
    queue = Queue(held(1, 8), held(1, 8, keep=8), held(1, 8, keep=16))
    assert queue.next(held(5, 1), held(6, 2)) == [1]
    # Whoever comes now waits for one chunk: those before it are let through first.
    assert queue.next(held(7, 2, keep=1)) == [5]
    assert queue.next() == [6, 7]
    assert queue.next(held(8, 1)) == [1]
    assert queue.next(held(9, 1)) == [8]
    assert queue.next() == [1]
    assert queue.next() == [9]


def test_a_chunk_does_not_wait_for_those_who_came_later() -> None:
    queue = Queue(held(1, 8), held(2, 8))
    queue.waiting.append(held(3, 1))
    assert queue.next() == [1]
    for _ in range(2):
        queue.waiting.append(held(4, 2))
    assert [queue.next() for _ in range(3)] == [[3], [2], [4]]


def test_chunks_share_a_call_where_nobody_waits_for_them() -> None:
    assert Queue(held(1, 8), held(2, 8), held(3, 8)).next() == [1, 2]
    queue = Queue(held(1, 8), held(2, 8), held(3, 1))
    assert [queue.next() for _ in range(3)] == [[1], [3], [2]]


def test_nothing_passes_its_own_sessions_chunk() -> None:
    queue = Queue(held(1, 8), held(2, 8), held(2, 1, keep=8), held(3, 1, keep=5))
    assert [queue.next() for _ in range(4)] == [[1], [3], [2], [2]]
