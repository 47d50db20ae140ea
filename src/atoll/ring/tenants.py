"""Who holds which slot: sessions that run, and ended ones whose caches may serve again.

A session that ended well leaves its caches where they are, in the ends and at every
stage, until its slot is wanted. The next request of the same group that begins with
the same tokens takes the slot over and computes only what is new: to the stages it
is the same session that goes on, whose next window goes back to `keep`. Where no
beginning is shared a free slot is taken. If there is none, what rests longest leaves its
slot as a parcel (`ring.parked`), or, where that is not worth it, is written over.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

from atoll.domain.generation import GenerateRequest
from atoll.domain.ids import Epoch, SessionId, Slot
from atoll.domain.wire import Park, Release, Resume
from atoll.ring.coordinator_config import CoordinatorConfig
from atoll.ring.coordinator_messages import (
    Admitted,
    CloseEnds,
    CoordinatorEffect,
    OpenEnds,
    ReleaseReturned,
    SendRelease,
    Submit,
)
from atoll.ring.drafting import Drafter
from atoll.ring.pace import Pace
from atoll.ring.parked import ParkedSessions
from atoll.ring.parking import Parked, ParkingRates
from atoll.ring.parking_messages import (
    DiscardReturned,
    EndsLoadedParcel,
    ParkingEvent,
    ResumeReturned,
    Tick,
)
from atoll.ring.recorded import Recorded
from atoll.ring.session import Session


class Tenants:
    """The slots of one ring.

    Args:
        config: Their number, and whether caches are kept.
        drafter: Guesses tokens of a session.
        pace: The ring's.
    """

    def __init__(
        self, config: CoordinatorConfig, drafter: Callable[[GenerateRequest], Drafter], pace: Pace
    ) -> None:
        self._config = config
        self._drafter = drafter
        self._pace = pace
        self.by_id: dict[SessionId, Session] = {}
        """All that hold a slot, by the number that stages know them by."""
        self._free: list[Slot] = [Slot(i) for i in range(config.n_slots)]
        # Longest at rest first.
        self._resting: list[Session] = []
        self.parked = ParkedSessions(config)
        self.is_paused = False
        """No message goes round: who ends is released later."""
        self.recorded = Recorded()

    @property
    def active(self) -> int:
        """Sessions that hold a slot and do not rest."""
        return len(self.by_id) - len(self._resting)

    @property
    def under_way(self) -> list[Session]:
        """Those that hold a slot and do not rest."""
        return [s for s in self.by_id.values() if s not in self._resting]

    @property
    def resting(self) -> int:
        """Ended sessions whose caches are kept."""
        return len(self._resting)

    @property
    def has_room(self) -> bool:
        """Whether a session may begin."""
        return bool(self._free or self._resting)

    def client(self, session: SessionId) -> Session | None:
        """The session that a client knows by this number."""
        return next((s for s in self.by_id.values() if s.client == session and s.live), None)

    def hold(self, session: SessionId, held: bool) -> None:
        """The client's session computes no further, or goes on."""
        if (found := self.client(session)) is not None:
            found.held = held

    def shared_with(self, request: GenerateRequest) -> int:
        """Tokens of a request's prompt that would not be computed again."""
        most = max((self._usable(old, request) for old in self._resting), default=0)
        most = most if most >= self._config.reuse_min else 0
        return max(most, self.parked.lot.best(request)[0])

    def _usable(self, old: Session, request: GenerateRequest) -> int:
        """Tokens of a request that what rests in a slot saves it, if it may take that over.

        Where only a small part is shared, a system prompt say, what rests is kept for its own
        conversation if it can be.
        """
        shared = old.shared_with(request)
        mostly = 2 * shared >= len(old.tokens) - 1
        return shared if mostly or not self.parked.is_worth(old) else 0

    def admit(self, submit: Submit, waiting: int) -> tuple[Session | None, list[CoordinatorEffect]]:
        """Give a session the slot that suits it best; there is room.

        Args:
            submit: The session.
            waiting: How many wait, this one included.

        Returns:
            The session, or None where a slot is being made free for it first, and what is
            to be done.
        """
        request = submit.request
        shared, session = max(
            ((self._usable(old, request), old) for old in reversed(self._resting)),
            key=lambda found: found[0],
            default=(0, None),
        )
        stowed, parcel = self.parked.lot.best(request)
        if session is not None and shared >= self._config.reuse_min and shared >= stowed:
            return self._take_over(session, submit, shared)
        if self._free:
            return self._begin(submit, stowed, parcel)
        # More may not wait: then what rests is written over at once.
        if waiting <= self._config.waiting_max:
            if sum(s.releasing for s in self.by_id.values()) >= waiting:
                return None, []
            oldest = self._resting[0]
            if self.parked.is_worth(oldest):
                return None, self._park(oldest)
            if parcel is not None:
                return None, self.spoil(oldest)
        return self._take_over(self._resting[0], submit, 0)

    def _take_over(
        self, session: Session, submit: Submit, shared: int
    ) -> tuple[Session, list[CoordinatorEffect]]:
        self._resting.remove(session)
        session.resume(submit.session, submit.request, self._config, keep=shared)
        return session, self._opened(session, submit, shared)

    def _begin(
        self, submit: Submit, shared: int, parcel: Parked | None
    ) -> tuple[Session, list[CoordinatorEffect]]:
        slot = heapq.heappop(self._free)
        session = Session.begin(submit.session, slot, submit.request, self._config)
        self.by_id[session.id] = session
        effects = self._opened(session, submit, 0)
        if parcel is not None:
            effects += self.parked.resume(session, parcel, shared)
        return session, effects

    def _opened(self, session: Session, submit: Submit, shared: int) -> list[CoordinatorEffect]:
        if self._config.guess_depth:
            session.guess(self._drafter(submit.request), self._pace, self._config)
        opened = OpenEnds(session.id, session.slot, submit.request)
        tenant = session.id if session.id != submit.session else None
        return [Admitted(submit.session, shared, tenant), opened]

    def _park(self, session: Session) -> list[CoordinatorEffect]:
        self._resting.remove(session)
        return self.parked.leave(session)

    def returned(
        self, event: ReleaseReturned | ParkingEvent, epoch: Epoch | None
    ) -> tuple[Session | None, list[CoordinatorEffect]]:
        """A message has gone round, the ends have loaded a parcel or not, or time has passed.

        Returns:
            The session whose prompt may enter now, if any, and what is to be done.
        """
        match event:
            case Tick(rates):
                return None, self._tick(rates)
            case ReleaseReturned(release):
                return None, self._released(release) if release.epoch == epoch else []
            case ResumeReturned(resume):
                return self._answered(resume) if resume.epoch == epoch else (None, [])
            case DiscardReturned(discard):
                self.parked.discarded(discard)
                return None, []
            case EndsLoadedParcel():
                return self._answered(event)

    def _released(self, release: Release | Park) -> list[CoordinatorEffect]:
        session = self.by_id.get(release.session)
        if session is None or not session.releasing:
            return []
        session.releasing = False
        return self.parked.left(session) + self.free_if_done(session)

    def _answered(
        self, answer: EndsLoadedParcel | Resume
    ) -> tuple[Session | None, list[CoordinatorEffect]]:
        session = self.by_id.get(answer.session)
        if session is None or session.coming is None:
            return None, []
        may_enter, effects = self.parked.answered(session, answer)
        if not session.live:
            effects += self.free_if_done(session)
        return session if may_enter else None, effects

    def _tick(self, rates: ParkingRates | None) -> list[CoordinatorEffect]:
        """Time has passed: what has rested for two ticks leaves its slot, if that is worth it."""
        self.parked.lot.tick(rates)
        if self.is_paused:
            return []
        due = [s for s in self._resting if self.parked.has_rested(s) and self.parked.is_worth(s)]
        return [effect for session in due for effect in self._park(session)]

    def rest(self, session: Session) -> list[CoordinatorEffect]:
        """A session ended well: its caches stay, its sampler goes."""
        session.live = session.opened = False
        session.cancelled = session.next_seq - 1
        self.parked.rests(session)
        self._resting.append(session)
        return [CloseEnds(session.id, session.slot, keep=True)]

    def forget(self) -> list[CoordinatorEffect]:
        """Keep no caches of ended sessions any more."""
        effects = self.parked.forget()
        for session in list(self._resting):
            effects += self.spoil(session)
        return effects

    def spoil(self, session: Session) -> list[CoordinatorEffect]:
        """The caches of a session, if it rests, are of no more use."""
        if session not in self._resting:
            return []
        self._resting.remove(session)
        session.opened = True
        return self.release(session)

    def release(self, session: Session) -> list[CoordinatorEffect]:
        """Clear an ended session from stages and ends."""
        effects: list[CoordinatorEffect] = []
        # Where nothing was sent no stage knows the session.
        if session.is_known:
            session.releasing = True
            if not self.is_paused:
                effects.append(SendRelease(session.id, session.slot))
        return effects + self.free_if_done(session)

    def free_if_done(self, session: Session) -> list[CoordinatorEffect]:
        """Once it is out of the ends and of the ring its slot is free."""
        effects: list[CoordinatorEffect] = []
        is_loading = session.coming is not None and session.coming.at_ends is None
        if session.opened and not session.at_ends and not is_loading:
            session.opened = False
            effects.append(CloseEnds(session.id, session.slot))
        if not session.opened and not session.releasing:
            del self.by_id[session.id]
            self.recorded.drop(session.id)
            heapq.heappush(self._free, session.slot)
        return effects

    def down(self) -> list[CoordinatorEffect]:
        """The ring is gone, and with it what its stages held."""
        effects: list[CoordinatorEffect] = []
        for session in self._resting:
            session.opened = True
        self._resting = []
        effects += self.parked.down(self.by_id.values())
        for session in list(self.by_id.values()):
            session.live = session.releasing = False
            session.out.clear()
            effects += self.free_if_done(session)
        return effects
