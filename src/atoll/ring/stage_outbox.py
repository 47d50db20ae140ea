"""What a stage sends on: computed windows that wait for credits, and rows sent before."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from msgspec.structs import replace

from atoll.domain.ids import Epoch
from atoll.domain.wire import Window
from atoll.ring.recorded import Recorded, spans
from atoll.ring.stage_messages import Forward, ForwardRecord, StageEffect
from atoll.ring.stage_session import StageSession
from atoll.ring.stage_turns import Held


class StageOutbox:
    """Flights on their way out, oldest first, and the downstream's credits.

    Args:
        credits: Windows the downstream takes before it grants more.
    """

    def __init__(self, credits: int) -> None:
        self._credits_max = credits
        self._flights: deque[list[Held]] = deque()
        self.credits = credits
        self.recorded = Recorded()

    @property
    def waiting(self) -> int:
        """Computed windows that have not left."""
        return sum(held.payload is not None for flight in self._flights for held in flight)

    def granted(self, frames: int) -> None:
        """The downstream takes more, but cannot grant itself more than was agreed."""
        self.credits = min(self._credits_max, self.credits + max(0, frames))

    def reset(self) -> None:
        """A new epoch begins: nothing is on its way out."""
        self._flights.clear()
        self.credits = self._credits_max

    def add(self, flight: list[Held]) -> None:
        """Queue what was computed together."""
        if flight:
            self._flights.append(flight)

    def sift(self, keep: Callable[[list[Held]], list[Held]]) -> None:
        """Leave only what `keep` does of each flight."""
        self._flights = deque(left for flight in self._flights if (left := keep(flight)))

    def replay(self, session: StageSession, epoch: Epoch, tokens: int, rows_max: int) -> None:
        """Queue positions [0, tokens) of a session as they were sent before."""
        for keep, rows in spans(tokens, rows_max):
            window = Window(
                *(session.id, session.slot, epoch, 0, keep, rows, session.encoding),
                exact=session.exact,
                replay=True,
            )
            session.pending += 1
            self._flights.append([Held(session, window, None)])

    def leave(self) -> tuple[list[StageEffect], list[Held]]:
        """Send what credits allow. What leaves together is one flight.

        A flight larger than the credits leaves in parts, each a flight of its
        own, so that the downstream never waits for a window that cannot come.

        Returns:
            What the driver has to do, and what has left.
        """
        effects: list[StageEffect] = []
        gone: list[Held] = []
        while self._flights and self.credits:
            flight = self._flights.popleft()
            part, left = flight[: self.credits], flight[self.credits :]
            if left:
                self._flights.appendleft(left)
            self.credits -= len(part)
            for follow, held in zip(range(len(part) - 1, -1, -1), part, strict=True):
                effects.append(self._send(held, follow))
            gone += part
        return effects, gone

    def _send(self, held: Held, follow: int) -> StageEffect:
        window = replace(held.window, follow=follow)
        if held.payload is None:
            return ForwardRecord(window)
        self.recorded.sent(window.session, window.keep, window.rows)
        return Forward(window, held.payload)
