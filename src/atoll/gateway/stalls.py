"""Stalls: which sessions make no progress, and for how long that may be.

`Stalls` is pure: callers pass the time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from atoll.domain.ids import SessionId

BUSY_FACTOR = 10
"""How many times longer a session may wait while stages report new work. A stage
that keeps windows and reports work all the same is found out after that."""

WATCH_S = 1.0
"""How often is looked, or four times within the bound where that is shorter."""

Mark = tuple[int, int, int]
"""Numbers of a session of which one changes when it moves on."""


class Stalls:
    """Clocks of the sessions that hold a slot, and of the stages' work."""

    def __init__(self, stall_s: float) -> None:
        self._stall_s = stall_s
        self._marks: dict[SessionId, tuple[Mark, float]] = {}
        self._work: tuple[int, ...] = ()
        self._worked_s = 0.0

    def are_there(
        self, marks: Mapping[SessionId, Mark], work: tuple[int, ...], *, now_s: float
    ) -> bool:
        """Whether a session is stuck.

        Args:
            marks: Where each session stands now.
            work: Rows that each stage has begun since it was loaded.
            now_s: The time; it never goes back.
        """
        if work != self._work:
            self._work, self._worked_s = work, now_s
        self._marks = {
            session: (mark, self._since_s(session, mark, now_s)) for session, mark in marks.items()
        }
        waits_s = [now_s - since_s for _, since_s in self._marks.values()]
        idle = now_s - self._worked_s > self._stall_s
        bound_s = self._stall_s if idle else BUSY_FACTOR * self._stall_s
        return any(wait_s > bound_s for wait_s in waits_s)

    def _since_s(self, session: SessionId, mark: Mark, now_s: float) -> float:
        before, since_s = self._marks.get(session, (None, now_s))
        return since_s if before == mark else now_s


async def wait_stalled(
    stall_s: float,
    marks: Callable[[], Mapping[SessionId, Mark]],
    work: Callable[[], tuple[int, ...]],
) -> None:
    """Look again and again; return when a session is stuck.

    Args:
        stall_s: How long a session may make no progress.
        marks, work: As for `Stalls.are_there`.
    """
    stalls = Stalls(stall_s)
    while True:
        await asyncio.sleep(min(WATCH_S, stall_s / 4))
        if stalls.are_there(marks(), work(), now_s=time.monotonic()):
            return
