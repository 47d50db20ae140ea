"""Which session holds which slot of a stage."""

from __future__ import annotations

from atoll.domain.ids import SessionId, Slot
from atoll.ring.messages import Fault
from atoll.ring.stage_session import StageSession


class StageSlots:
    """Sessions by number and by slot."""

    def __init__(self) -> None:
        self._sessions: dict[SessionId, StageSession] = {}
        self._by_slot: dict[Slot, StageSession] = {}
        # The session each slot served last: a replay of its first window must
        # not take the slot again.
        self._released: dict[Slot, SessionId] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def all(self) -> list[StageSession]:
        """All sessions, in the order of their slots."""
        return [self._by_slot[slot] for slot in sorted(self._by_slot)]

    def holders(self) -> dict[Slot, SessionId]:
        """Which session holds which slot."""
        return {slot: session.id for slot, session in self._by_slot.items()}

    def get(self, session: SessionId) -> StageSession | None:
        """The session of this number, if it holds a slot."""
        return self._sessions.get(session)

    def holds(self, session: StageSession) -> bool:
        """Whether a session has its slot still."""
        return self._sessions.get(session.id) is session

    def fault_of(self, session: SessionId, slot: Slot) -> Fault | None:
        """Why a session cannot begin in a slot, or None if it can."""
        if slot in self._by_slot:
            return Fault("slot", f"slot {slot} is held by another session")
        if self._released.get(slot) == session:
            return Fault("released", "the session was released")
        return None

    def begin(self, session_id: SessionId, slot: Slot) -> StageSession:
        """A session takes a slot."""
        session = StageSession(session_id, slot)
        self._sessions[session.id] = self._by_slot[slot] = session
        return session

    def remove(self, session: StageSession, *, released: bool) -> None:
        """A session gives its slot up; `released`: for good."""
        del self._sessions[session.id], self._by_slot[session.slot]
        if released:
            self._released[session.slot] = session.id

    def new_epoch(self) -> None:
        """Numbers of the epoch before are of no more use to anybody."""
        self._released = {}
