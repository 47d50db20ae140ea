"""Who holds which slot: sessions that run, and ended ones whose caches may serve again.

A session that ended well leaves its caches where they are, in the ends and at every
stage, until its slot is wanted. The next request of the same group that begins with
the same tokens takes the slot over and computes only what is new: to the stages it
is the same session that goes on, whose next window goes back to `keep`. Where no
beginning is shared a free slot is taken, and then the one that rests longest, from
its first position on.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

from atoll.domain.generation import GenerateRequest
from atoll.domain.ids import SessionId, Slot
from atoll.ring.coordinator_config import CoordinatorConfig
from atoll.ring.coordinator_messages import (
    Admitted,
    CloseEnds,
    CoordinatorEffect,
    OpenEnds,
    SendRelease,
    Submit,
)
from atoll.ring.drafting import Drafter
from atoll.ring.pace import Pace
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

    @property
    def active(self) -> int:
        """Sessions that hold a slot and do not rest."""
        return len(self.by_id) - len(self._resting)

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

    def shared_with(self, request: GenerateRequest) -> int:
        """Tokens of a request's prompt that would not be computed again."""
        most = max((old.shared_with(request) for old in self._resting), default=0)
        return most if most >= self._config.reuse_min else 0

    def admit(self, submit: Submit) -> tuple[Session, list[CoordinatorEffect]]:
        """Give a session the slot that suits it best; there is room."""
        request = submit.request
        shared, session = max(
            ((old.shared_with(request), old) for old in reversed(self._resting)),
            key=lambda found: found[0],
            default=(0, None),
        )
        if session is not None and (shared >= self._config.reuse_min or not self._free):
            if shared < self._config.reuse_min:
                shared, session = 0, self._resting[0]
            self._resting.remove(session)
            session.resume(submit.session, request, self._config, keep=shared)
        else:
            slot = heapq.heappop(self._free)
            session = Session.begin(submit.session, slot, request, self._config)
            shared = 0
            self.by_id[session.id] = session
        if self._config.guess_depth:
            session.guess(self._drafter(request), self._pace, self._config)
        opened = OpenEnds(session.id, session.slot, request)
        tenant = session.id if session.id != submit.session else None
        return session, [Admitted(submit.session, shared, tenant), opened]

    def rest(self, session: Session) -> list[CoordinatorEffect]:
        """A session ended well: its caches stay, its sampler goes."""
        session.live = session.opened = False
        session.cancelled = session.next_seq - 1
        self._resting.append(session)
        return [CloseEnds(session.id, session.slot, keep=True)]

    def forget(self) -> list[CoordinatorEffect]:
        """Keep no caches of ended sessions any more."""
        effects: list[CoordinatorEffect] = []
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
        # Where no window was sent no stage knows the session.
        if session.next_seq:
            session.releasing = True
            effects.append(SendRelease(session.id, session.slot))
        return effects + self.free_if_done(session)

    def free_if_done(self, session: Session) -> list[CoordinatorEffect]:
        """Once it is out of the ends and of the ring its slot is free."""
        effects: list[CoordinatorEffect] = []
        if session.opened and not session.at_ends:
            session.opened = False
            effects.append(CloseEnds(session.id, session.slot))
        if not session.opened and not session.releasing:
            del self.by_id[session.id]
            heapq.heappush(self._free, session.slot)
        return effects

    def down(self) -> list[CoordinatorEffect]:
        """The ring is gone, and with it what its stages held."""
        effects: list[CoordinatorEffect] = []
        for session in self._resting:
            session.opened = True
        self._resting = []
        for session in list(self.by_id.values()):
            session.live = session.releasing = False
            session.out.clear()
            effects += self.free_if_done(session)
        return effects
