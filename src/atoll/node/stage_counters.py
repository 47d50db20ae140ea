"""What a stage counts while it serves."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from atoll.domain.ids import SessionId
from atoll.engine.stage_messages import Computed


@dataclass(slots=True)
class Counters:
    """What a stage has done since it was loaded; seconds are sums over steps.

    A step is a batch of one row a session, as decoding makes them; `step_rows` are
    the rows of all steps. What else is computed are chunks: their rows, and the seconds
    from handing one to the stage process until its answer. `replay_s` are those from the
    arrival of what a new stage is sent again until its sessions go on.
    """

    windows: int = 0
    rows: int = 0
    batches: int = 0
    steps: int = 0
    step_rows: int = 0
    engine_s: float = 0.0
    busy_s: float = 0.0
    call_s: float = 0.0
    node_s: float = 0.0
    chunk_rows: int = 0
    chunk_s: float = 0.0
    replay_rows: int = 0
    replay_s: float = 0.0
    _windows_now: int = 0
    _rows_now: int = 0
    _called_s: float = 0.0
    _replaying: set[SessionId] = field(default_factory=set)
    _replaying_s: float = 0.0

    def began(self, windows: int, rows: int) -> None:
        """The engine is given a batch."""
        self.windows += windows
        self.rows += rows
        self.batches += 1
        self._windows_now, self._rows_now = windows, rows
        self._called_s = time.perf_counter()

    def done(self, message: Computed) -> bool:
        """It has answered; whether that was a step."""
        call_s = time.perf_counter() - self._called_s
        if is_step := self._rows_now == self._windows_now:
            self.steps += 1
            self.step_rows += self._rows_now
            self.engine_s += message.engine_s
            self.busy_s += message.busy_s
            self.call_s += call_s
        elif not self._replaying:
            self.chunk_rows += self._rows_now
            self.chunk_s += call_s
        return is_step

    def replay_came(self, session: SessionId, rows: int) -> None:
        """Rows of a session were sent again."""
        if not self._replaying:
            self._replaying_s = time.perf_counter()
        self._replaying.add(session)
        self.replay_rows += rows

    def replay_over(self, session: SessionId) -> None:
        """A session goes on, or is over."""
        if session in self._replaying:
            self._replaying.discard(session)
            if not self._replaying:
                self.replay_s += time.perf_counter() - self._replaying_s

    def epoch_raised(self) -> None:
        """What was sent again is not waited for any more."""
        self._replaying.clear()
