"""Round trips of one link, by heartbeats that the other side answers.

Pure: callers pass `now_s`. What is kept is bounded whatever the other side says
or leaves out; an answer that nobody waits for is passed over.
"""

from __future__ import annotations

from collections import deque

KEPT = 16
"""Of so many round trips the least counts: the rest waited somewhere, behind windows
on the way or for a busy process."""
WAITING_MAX = 8
"""Heartbeats whose answer may be due at once: on a link with so many seconds' way."""


class Pulse:
    """Which heartbeats are on their way, and how long the last ones took."""

    def __init__(self) -> None:
        self._sent_s: dict[int, float] = {}
        self._round_trips_s: deque[float] = deque(maxlen=KEPT)

    @property
    def round_trip_s(self) -> float | None:
        """The least of the last round trips; None before the first answer."""
        return min(self._round_trips_s, default=None)

    def sent(self, count: int, *, now_s: float) -> None:
        """The heartbeat of this number has left."""
        self._sent_s[count] = now_s
        if len(self._sent_s) > WAITING_MAX:
            del self._sent_s[next(iter(self._sent_s))]

    def answered(self, count: int, *, now_s: float) -> None:
        """Its answer is here."""
        sent_s = self._sent_s.pop(count, None)
        if sent_s is not None:
            self._round_trips_s.append(now_s - sent_s)
