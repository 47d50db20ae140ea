"""Windows that wait for a stage's engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from atoll.ring.stage_session import StageSession
from atoll.ring.stage_turns import Held, StageTurns

Sift = Callable[[list[Held]], list[Held]]
"""Leaves some of several windows."""


class StageQueue:
    """Whole flights in the order they came, and the one that is arriving.

    Args:
        turns: Says what is computed next.
    """

    def __init__(self, turns: StageTurns) -> None:
        self._turns = turns
        self._arriving: list[Held] = []
        self._queue: list[Held] = []

    def __len__(self) -> int:
        return len(self._queue) + len(self._arriving)

    @property
    def has_whole(self) -> bool:
        """Whether a whole flight waits."""
        return bool(self._queue)

    def add(self, held: Held) -> None:
        """A window of the flight that is arriving."""
        self._arriving.append(held)

    def close_flight(self) -> None:
        """The arriving flight is whole."""
        self._queue += self._arriving
        self._arriving = []

    def clear(self) -> None:
        """A new epoch begins."""
        self._arriving, self._queue = [], []

    def sift(self, keep: Sift) -> int:
        """Leave only what `keep` does; how many windows went."""
        waiting = len(self)
        self._queue, self._arriving = keep(self._queue), keep(self._arriving)
        return waiting - len(self)

    def of(self, session: StageSession) -> list[Held]:
        """A session's windows, in order."""
        return [held for held in self if held.session is session]

    def __iter__(self) -> Iterator[Held]:
        yield from self._queue
        yield from self._arriving

    def take(self) -> list[Held]:
        """The next batch."""
        batch, self._queue = self._turns.take(self._queue)
        return batch

    def batch_over(self, batch: list[Held]) -> None:
        """The engine is done with a batch."""
        self._turns.over(batch, tuple(self))
