"""How sessions leave a stage as parcels, and begin with one."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec.structs import replace

from atoll.domain.ids import SessionId
from atoll.domain.wire import Park, Release, Resume
from atoll.ring.stage_messages import (
    DropSlot,
    FetchParcel,
    ForwardResume,
    LoadParcel,
    ParcelFetched,
    ParcelLoaded,
    StageEffect,
    TakeParcel,
)
from atoll.ring.stage_session import StageSession


@dataclass(frozen=True, slots=True)
class _Coming:
    """A session whose parcel is on its way here."""

    session: StageSession
    resume: Resume


class StageParcels:
    """Sessions that wait for their parcels; each counts as one pending window."""

    def __init__(self) -> None:
        self._coming: dict[SessionId, _Coming] = {}

    def begin(self, session: StageSession, resume: Resume) -> list[StageEffect]:
        """A session begins with a parcel, unless that is lost already."""
        if resume.lost:
            return [ForwardResume(resume)]
        session.pending += 1
        self._coming[session.id] = _Coming(session, resume)
        return [FetchParcel(session.id, resume.parcel)]

    def here(
        self, event: ParcelFetched | ParcelLoaded
    ) -> tuple[StageSession | None, list[StageEffect]]:
        """A parcel was brought or lost, or the engine has taken it or not.

        Returns:
            The session if it waits no more, and what is to be done.
        """
        coming = self._coming.get(event.session)
        if coming is None:
            return None, []  # of an epoch that is over
        if isinstance(event, ParcelLoaded):
            return self._end(coming, is_loaded=event.is_loaded)
        if event.parcel is None:
            return self._end(coming, is_loaded=False)
        r = coming.resume
        return None, [LoadParcel(r.session, r.slot, r.parcel, r.tokens, event.parcel)]

    def _end(self, coming: _Coming, *, is_loaded: bool) -> tuple[StageSession, list[StageEffect]]:
        session, resume = coming.session, coming.resume
        del self._coming[session.id]
        session.pending -= 1
        if is_loaded:
            session.held = session.end = resume.tokens
        return session, [ForwardResume(replace(resume, lost=not is_loaded))]

    def is_coming(self, session: SessionId) -> bool:
        """Whether a session waits for its parcel."""
        return session in self._coming

    def clear(self) -> None:
        """A new epoch begins: nobody waits any more."""
        self._coming.clear()


def leave(session: StageSession, order: Release | Park) -> StageEffect:
    """What becomes of a slot whose session is over.

    Caches of which a part is missing or unsound are of no use to anybody.
    """
    if isinstance(order, Park) and not session.broken and order.tokens <= session.held:
        return TakeParcel(session.slot, session.id, order.tokens)
    return DropSlot(session.slot)
