"""Returns: windows that came back from the last stage and wait for the ends."""

from __future__ import annotations

from dataclasses import dataclass

from atoll.domain.ids import SessionId
from atoll.domain.wire import Window
from atoll.ring.coordinator_messages import WindowReturned
from atoll.ring.messages import Fault, Payload, WindowUnusable
from atoll.ring.session import Session


@dataclass(frozen=True, slots=True, eq=False)
class Returned:
    """A window that was checked against what its session is waiting for."""

    session: Session
    window: Window
    payload: Payload

    @property
    def prefill(self) -> bool:
        """Whether it holds prompt tokens."""
        return self.session.is_prompt(self.window.keep)


class Returns:
    """Checked windows by flight, and the last stage's credits.

    As many windows wait here at most as credits were given.
    """

    def __init__(self, credits: int) -> None:
        self._credits = credits
        self._arriving: list[Returned] = []
        self._queue: list[Returned] = []
        self._grants = 0
        self.given = credits

    @property
    def waiting(self) -> int:
        """Windows here, those of an unfinished flight included."""
        return len(self._arriving) + len(self._queue)

    @property
    def complete(self) -> bool:
        """Whether a whole flight waits."""
        return bool(self._queue)

    @property
    def decode_waits(self) -> bool:
        """Whether a window that may bring somebody's next token waits."""
        return any(not returned.prefill for returned in self._queue)

    def reset(self) -> None:
        """Forget everything: a new epoch begins."""
        self._arriving, self._queue = [], []
        self._grants = 0
        self.given = self._credits

    def charge(self) -> Fault | None:
        """Count an arrived window against the credits given."""
        if self.given < 1:
            return Fault("credit", "a window was sent without a credit")
        self.given -= 1
        return None

    def refund(self, frames: int = 1) -> None:
        """Windows have left, or were not taken: their sender may send as many more."""
        self._grants += frames

    def take_grants(self) -> int:
        """Frames to grant now; they count as given."""
        grants, self._grants = self._grants, 0
        self.given += grants
        return grants

    def fault_of(
        self, event: WindowReturned | WindowUnusable, session: Session | None
    ) -> Fault | None:
        """Why a window that came back cannot be taken, or None; stale ones are no fault."""
        if session is None:
            return Fault("session", "no such session is in the ring")
        if not session.wants(event.window):
            return None
        if isinstance(event, WindowUnusable):
            return Fault(event.code, event.problem)
        return self.fault_of_flight(event.window) or session.fault_of(event.window)

    def fault_of_flight(self, window: Window) -> Fault | None:
        """Why the flight that `window` announces cannot be, or None."""
        if window.follow < 0 or self.waiting + window.follow + 1 > self._credits:
            problem = f"{window.follow} more to come is beyond a queue of {self._credits}"
            return Fault("flight", problem)
        return None

    def add(self, returned: Returned) -> None:
        """Queue a window of the flight that is arriving."""
        self._arriving.append(returned)

    def close_flight(self) -> None:
        """The arriving flight is whole."""
        self._queue += self._arriving
        self._arriving = []

    def drop(self, session: SessionId) -> None:
        """The session is over: forget its windows."""
        before = self.waiting
        self._arriving = [r for r in self._arriving if r.session.id != session]
        self._queue = [r for r in self._queue if r.session.id != session]
        self.refund(before - self.waiting)

    def take(self, rows_max: int, *, decode_first: bool = False) -> list[Returned]:
        """The oldest window and all that may be computed with it, one of a session.

        Args:
            rows_max: Most rows.
            decode_first: The oldest that does not hold prompt tokens, if there is one.
        """
        # A session's windows with prompt tokens are all through before it decodes.
        decodes = (r for r in self._queue if not r.prefill) if decode_first else iter(())
        due = next(decodes, self._queue[0])
        first = due.window
        taken: list[Returned] = []
        rest: list[Returned] = []
        seen: set[SessionId] = set()
        rows = first.rows
        for returned in self._queue:
            window = returned.window
            alike = window.rows == first.rows and window.exact == first.exact
            more = 0 if returned is due else window.rows
            if alike and rows + more <= rows_max and window.session not in seen:
                taken.append(returned)
                rows += more
            else:
                rest.append(returned)
            seen.add(window.session)
        self._queue = rest
        self.refund(len(taken))
        return taken
