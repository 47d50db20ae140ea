"""How a session's caches leave its slot as parcels, and another session begins with them."""

from __future__ import annotations

from collections.abc import Iterable

from atoll.domain.ids import SessionId
from atoll.domain.wire import Discard, Resume
from atoll.ring.coordinator_config import CoordinatorConfig
from atoll.ring.coordinator_messages import CoordinatorEffect
from atoll.ring.parking import Coming, Parked, ParkingLot
from atoll.ring.parking_messages import (
    DropEndsParcel,
    EndsLoadedParcel,
    LoadEnds,
    ParkEnds,
    Reused,
    SendDiscard,
    SendPark,
    SendResume,
)
from atoll.ring.session import Session

REST_TICKS = 2
"""A session has rested long when it has seen so many ticks: at least one whole time between."""


class ParkedSessions:
    """Sessions on their way out of the slots, and parcels on their way back.

    Args:
        config: Whether and how much is parked.
    """

    def __init__(self, config: CoordinatorConfig) -> None:
        self.lot = ParkingLot(config.parking, config.reuse_min)
        self._discards: set[SessionId] = set()
        """Parcels that stages are told to let go of; the message is not back."""

    def rests(self, session: Session) -> None:
        """A session came to rest."""
        session.resting_since = self.lot.ticks

    def has_rested(self, session: Session) -> bool:
        """Whether it has rested for long."""
        return self.lot.ticks - session.resting_since >= REST_TICKS

    def is_worth(self, session: Session) -> bool:
        """Whether a session at rest is better moved than computed again."""
        return self.lot.is_worth(len(session.computed))

    def leave(self, session: Session) -> list[CoordinatorEffect]:
        """A session at rest leaves its slot; that is free when the message is back."""
        tokens = len(session.computed)
        session.releasing = session.parks = True
        return [
            ParkEnds(session.id, session.slot, tokens),
            SendPark(session.id, session.slot, tokens),
        ]

    def left(self, session: Session) -> list[CoordinatorEffect]:
        """The message is back: every stage has had its chance to keep a parcel."""
        if not session.parks:
            return []
        session.parks = False
        self.lot.add(session.id, session.request, session.computed)
        return self._discard(self.lot.crowd_out())

    def given_up(self, session: Session) -> list[CoordinatorEffect]:
        """The message is lost: some stages have a parcel and others do not."""
        if not session.parks:
            return []
        session.parks = False
        return self._discard([session.id])

    def resume(self, session: Session, parked: Parked, shared: int) -> list[CoordinatorEffect]:
        """A session begins with a parcel; nothing of its prompt enters until that is here."""
        session.coming, session.resumed = Coming(parked, shared), True
        parcel, tokens = parked.parcel, len(parked.tokens)
        return [
            LoadEnds(session.id, session.slot, parcel, tokens),
            SendResume(session.id, session.slot, parcel, tokens),
        ]

    def answered(
        self, session: Session, answer: EndsLoadedParcel | Resume
    ) -> tuple[bool, list[CoordinatorEffect]]:
        """The ends have answered, or the message is back.

        Returns:
            Whether the session's prompt may enter now, and what is to be done.
        """
        if session.coming is None:
            return False, []
        if isinstance(answer, Resume):
            session.coming.in_ring = not answer.lost
        else:
            session.coming.at_ends = answer.is_loaded
        return self._went_on(session)

    def cut_off(self, session: Session) -> list[CoordinatorEffect]:
        """The message about the session's parcel is lost, if there is one."""
        if session.coming is None:
            return []
        session.coming.in_ring = False
        return self._went_on(session)[1]

    def _went_on(self, session: Session) -> tuple[bool, list[CoordinatorEffect]]:
        """Have the session begin if all have answered."""
        coming = session.coming
        if coming is None or not coming.is_over or not session.live:
            return False, []
        session.coming = None
        effects: list[CoordinatorEffect] = []
        if coming.is_here:
            session.entered = session.passed = coming.shared
            effects.append(Reused(session.client, coming.shared))
        if coming.is_used_up and self.lot.remove(coming.parked):
            effects += self._discard([coming.parked.parcel])
        return True, effects

    def forget(self) -> list[CoordinatorEffect]:
        """Keep no parcels any more."""
        return self._discard(self.lot.clear())

    def down(self, sessions: Iterable[Session]) -> list[CoordinatorEffect]:
        """The ring is gone, and with it the keys of its stages."""
        gone = self.lot.clear()
        self._discards.clear()
        for session in sessions:
            if session.parks:
                session.parks = False
                gone.append(session.id)
            if session.coming is not None:
                session.coming.in_ring = False
        return [DropEndsParcel(parcel) for parcel in gone]

    def _discard(self, parcels: Iterable[SessionId]) -> list[CoordinatorEffect]:
        effects: list[CoordinatorEffect] = []
        for parcel in parcels:
            self._discards.add(parcel)
            effects += [DropEndsParcel(parcel), SendDiscard(parcel)]
        return effects

    def discarded(self, discard: Discard) -> None:
        """Every stage has let go of a parcel."""
        self._discards.discard(discard.parcel)

    def go_on(self) -> list[CoordinatorEffect]:
        """The ring is whole again: what stages were not told is told anew."""
        return [SendDiscard(parcel) for parcel in sorted(self._discards)]
