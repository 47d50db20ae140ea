"""How sessions go on when their ring has lost a part: in a new epoch, from what is left.

Whatever was on its way is gone. Each session goes on behind the positions that had been
everywhere: stages that were not lost hold them, and one that is new is sent them again by
who sends to it (design section 6). Where that is not possible a session's tokens enter anew.
"""

from __future__ import annotations

from atoll.domain.ids import Epoch
from atoll.domain.wire import Rejoin
from atoll.ring.admission import Prefill
from atoll.ring.coordinator_messages import CoordinatorEffect, SendRelease
from atoll.ring.departures import Departures
from atoll.ring.parking_messages import SendDiscard
from atoll.ring.returns import Returns
from atoll.ring.session import Session
from atoll.ring.tenants import Tenants


class Comeback:
    """Between two epochs of which the second goes on where the first was cut off.

    Args:
        tenants: Whose sessions go on.
        prefill: Where they enter again.
        departures: What leaves the gateway.
        returns: What came back to it.
    """

    def __init__(
        self, tenants: Tenants, prefill: Prefill, departures: Departures, returns: Returns
    ) -> None:
        self._tenants = tenants
        self._prefill = prefill
        self._departures = departures
        self._returns = returns
        self.is_paused = False

    def hold_back(self, effects: list[CoordinatorEffect]) -> list[CoordinatorEffect]:
        """What can be done of some effects while no message goes round.

        Parcels are discarded once one does (`ParkedSessions.go_on`).
        """
        return [effect for effect in effects if not isinstance(effect, SendDiscard)]

    def pause(self) -> list[CoordinatorEffect]:
        """A part of the ring is lost."""
        self.is_paused = self._tenants.is_paused = True
        self._clear()
        effects: list[CoordinatorEffect] = []
        for session in self._tenants.by_id.values():
            session.pause()
            effects += self._tenants.parked.cut_off(session)
        return effects

    def over(self) -> None:
        """The ring does not come back."""
        self.is_paused = self._tenants.is_paused = False

    def go_on(self, epoch: Epoch, *, first_is_new: bool) -> list[CoordinatorEffect]:
        """The ring is whole again, in a new epoch."""
        effects = self._tenants.parked.go_on()
        self.over()
        # Prompts may have been put in line meanwhile.
        self._clear()
        for session in list(self._tenants.by_id.values()):
            if not session.live:
                effects += self._leave(session)
            elif session.coming is None:
                self._enter(session, epoch, first_is_new=first_is_new)
        return effects

    def rejoined(self, rejoin: Rejoin) -> None:
        """Every stage was told where a session goes on."""
        session = self._tenants.by_id.get(rejoin.session)
        if session is not None and session.live and session.rejoining:
            session.enter_again(0 if rejoin.lost else rejoin.tokens)
            self._prefill.add(session)

    def _clear(self) -> None:
        self._prefill.clear()
        self._departures.reset()
        self._returns.reset()

    def _leave(self, session: Session) -> list[CoordinatorEffect]:
        """Have an ended session forgotten everywhere, one at rest too."""
        if session.releasing:
            return [
                *self._tenants.parked.given_up(session),
                SendRelease(session.id, session.slot),
            ]
        return self._tenants.spoil(session)

    def _enter(self, session: Session, epoch: Epoch, *, first_is_new: bool) -> None:
        whole = session.whole if session.is_known else 0
        if first_is_new and self._departures.recorded.rows(session.id) < whole:
            whole = 0
        if whole:
            session.rejoining = True
            self._departures.rejoin(session, epoch, whole, replay=first_is_new)
        else:
            session.enter_again(0)
            self._prefill.add(session)
