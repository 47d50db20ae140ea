"""Departures: which windows leave the gateway, when, and in which flights."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from atoll.domain.ids import Epoch, SessionId
from atoll.domain.wire import Window
from atoll.ring.comeback_messages import SendRecord, SendRejoin
from atoll.ring.coordinator_config import CoordinatorConfig
from atoll.ring.coordinator_messages import Send
from atoll.ring.messages import Payload
from atoll.ring.pace import Pace
from atoll.ring.recorded import Recorded, spans
from atoll.ring.session import Session


@dataclass(frozen=True, slots=True, eq=False)
class Ready:
    """A computed window that may leave; rows at positions keep, keep + 1, ..."""

    session: Session
    keep: int
    rows: int
    payload: Payload

    @property
    def prefill(self) -> bool:
        """Whether it holds prompt tokens."""
        return self.session.is_prompt(self.keep)

    @property
    def is_ahead(self) -> bool:
        """Whether its session has a window on its way already."""
        return bool(self.session.out)

    @property
    def is_held(self) -> bool:
        """Whether it may not leave for now."""
        return self.session.held and not self.prefill

    @property
    def kind(self) -> tuple[int, bool]:
        """What must be equal within a flight."""
        return self.rows, self.session.exact


@dataclass(slots=True)
class _Rejoin:
    """A session that goes on, and the windows to be sent before stages are told so."""

    session: Session
    tokens: int
    windows: list[Window]


class Departures:
    """Ready windows, the first stage's credits and the lanes decode flights use.

    A lane is taken when a decode flight leaves and free when the last of its
    windows has passed the ends again. With all lanes taken ready windows
    gather, so that sessions which became ready at different times leave as
    one flight from then on. Guesses of sessions that have a window on its way
    wait for no lane.
    """

    def __init__(
        self,
        config: CoordinatorConfig,
        pace: Pace | None = None,
        recorded: Recorded | None = None,
    ) -> None:
        self._config = config
        self._pace = pace or Pace()
        self.recorded = recorded or Recorded()
        self._rejoins: deque[_Rejoin] = deque()
        self._ready: list[Ready] = []
        self._lanes: list[set[tuple[SessionId, int]]] = []
        self.credits = config.credits

    @property
    def waiting(self) -> int:
        """Windows that are ready and have not left."""
        return len(self._ready)

    @property
    def lanes(self) -> int:
        """Lanes taken."""
        return len(self._lanes)

    @property
    def lanes_max(self) -> int:
        """Lanes there are."""
        if not self._pace.is_known:
            return self._config.lanes
        return max(self._config.lanes, self._pace.lanes())

    @property
    def room_for_chunks(self) -> int:
        """Prefill windows worth computing now: more would only wait for credits."""
        return self.credits - sum(ready.prefill for ready in self._ready)

    def reset(self) -> None:
        """Forget everything: a new epoch begins."""
        self._ready, self._lanes = [], []
        self._rejoins.clear()
        self.credits = self._config.credits

    def holds(self, session: SessionId) -> bool:
        """Whether a window of the session is ready and has not left."""
        return any(ready.session.id == session for ready in self._ready)

    def granted(self, frames: int) -> None:
        """The first stage takes `frames` more, but never more than was agreed."""
        self.credits = min(self._config.credits, self.credits + max(0, frames))

    def add(self, ready: Ready) -> None:
        """Queue a window; those of one session leave in the order they came."""
        self._ready.append(ready)

    def step_done(self, session: SessionId, seq: int) -> None:
        """Window `seq` has passed the ends, or never will."""
        for lane in self._lanes:
            lane.discard((session, seq))
        self._lanes = [lane for lane in self._lanes if lane]

    def drop(self, session: SessionId) -> None:
        """The session is over: forget its ready windows and its places in lanes."""
        self._ready = [ready for ready in self._ready if ready.session.id != session]
        self._rejoins = deque(r for r in self._rejoins if r.session.id != session)
        for lane in self._lanes:
            lane.difference_update([step for step in lane if step[0] == session])
        self._lanes = [lane for lane in self._lanes if lane]

    def drop_stale(self, session: SessionId, seq: int) -> None:
        """Forget the session's ready windows, and its windows up to `seq` in lanes."""
        self._ready = [ready for ready in self._ready if ready.session.id != session]
        for lane in self._lanes:
            lane.difference_update([s for s in lane if s[0] == session and s[1] <= seq])
        self._lanes = [lane for lane in self._lanes if lane]

    def rejoin(self, session: Session, epoch: Epoch, tokens: int, *, replay: bool) -> None:
        """Have stages told where a session goes on.

        Args:
            session: The session.
            epoch: The new epoch.
            tokens: Positions that were everywhere.
            replay: The first stage is new: send it these first, as they were sent before.
        """
        rows_max = self._config.rows_max
        if session.exact:
            rows_max = min(rows_max, self._config.exact_chunk_rows)
        windows = [
            Window(
                *(session.id, session.slot, epoch, 0, keep, rows, session.encoding),
                exact=session.exact,
                replay=True,
            )
            for keep, rows in (spans(tokens, rows_max) if replay else ())
        ]
        self._rejoins.append(_Rejoin(session, tokens, windows))

    def leave(self, epoch: Epoch, decoding: int) -> list[Send | SendRecord | SendRejoin]:
        """Send what may leave now, oldest first.

        Args:
            epoch: The ring's epoch.
            decoding: Sessions that decode; they are spread evenly over the lanes.
        """
        if not self._ready and not self._rejoins:
            return []
        sends: list[Send | SendRecord | SendRejoin] = [*self._leave_again()]
        share = -(-decoding // self.lanes_max)
        while self.credits and (flight := self._next_flight(max(1, share))):
            self._ready = [ready for ready in self._ready if ready not in flight]
            self.credits -= (n := len(flight))
            needs_lane = any(not ready.prefill and not ready.is_ahead for ready in flight)
            windows = [
                ready.session.send(epoch, ready.keep, ready.rows, n - 1 - i, n)
                for i, ready in enumerate(flight)
            ]
            if needs_lane:
                self._lanes.append({(window.session, window.seq) for window in windows})
            sends += [Send(w, r.payload) for w, r in zip(windows, flight, strict=True)]
            for window in windows:
                self.recorded.sent(window.session, window.keep, window.rows)
        return sends

    def _leave_again(self) -> Iterator[SendRecord | SendRejoin]:
        """What stages need before sessions go on, as far as credits allow."""
        while self._rejoins:
            rejoin = self._rejoins[0]
            while rejoin.windows:
                if not self.credits:
                    return
                self.credits -= 1
                yield SendRecord(rejoin.windows.pop(0))
            self._rejoins.popleft()
            yield SendRejoin(rejoin.session.id, rejoin.session.slot, rejoin.tokens)

    def _next_flight(self, share: int) -> list[Ready]:
        """The oldest window that may leave, with its like up to `share` and the credits."""
        lane_free = len(self._lanes) < self.lanes_max
        may = [ready for ready in self._ready if not ready.is_held]
        first = next((r for r in may if r.prefill or r.is_ahead or lane_free), None)
        if first is None:
            return []
        if first.prefill:
            return [first]
        flight: list[Ready] = []
        seen: set[SessionId] = set()
        for ready in may:
            # Of each session the oldest alone: its windows leave in order.
            alike = not ready.prefill and ready.kind == first.kind
            alike = alike and (lane_free or ready.is_ahead)
            if alike and ready.session.id not in seen:
                flight.append(ready)
            seen.add(ready.session.id)
        return flight[: min(share, self.credits)]
