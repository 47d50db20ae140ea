"""How a stage's sessions go on in a new epoch: what it holds, lacks, and sends again."""

from __future__ import annotations

from msgspec.structs import replace

from atoll.domain.ids import Epoch
from atoll.domain.wire import Rejoin, Window
from atoll.ring.stage_messages import EpochRaised, ForwardRejoin, StageConfig, StageEffect
from atoll.ring.stage_outbox import StageOutbox
from atoll.ring.stage_session import StageSession, fault_of_header
from atoll.ring.stage_slots import StageSlots


class StageComeback:
    """Which of this stage and the next are new, and what follows of that.

    Args:
        config: Bounds windows.
        slots: The stage's sessions.
        outbox: What leaves for the next stage.
    """

    def __init__(self, config: StageConfig, slots: StageSlots, outbox: StageOutbox) -> None:
        self._config = config
        self._slots = slots
        self._outbox = outbox
        self._is_new = True
        self.next_is_new = False

    def raised(self, event: EpochRaised) -> None:
        """A new epoch begins."""
        self._is_new, self.next_is_new = not event.goes_on, event.next_is_new

    def takes_replay(self, window: Window, session: StageSession | None) -> bool:
        """Whether a window continues what a new stage is sent anew of a session."""
        if not self._is_new or fault_of_header(window, self._config) is not None:
            return False
        if session is None:
            return window.keep == 0 and self._slots.fault_of(window.session, window.slot) is None
        return session.takes_replay(window)

    def can_rejoin(self, rejoin: Rejoin, session: StageSession) -> bool:
        """Whether a session can go on here, and at the next stage by what was sent there."""
        recorded = self._outbox.recorded.rows(session.id)
        enough = recorded >= rejoin.tokens or not self._sends_again
        return enough and session.can_rejoin(rejoin)

    def rejoin(self, rejoin: Rejoin, session: StageSession, epoch: Epoch) -> list[StageEffect]:
        """A session goes on; what the next stage lacks of it leaves first."""
        if self._sends_again:
            exact_max = self._config.exact_rows_max if session.exact else self._config.rows_max
            rows_max = min(self._config.rows_max, exact_max)
            self._outbox.replay(session, epoch, rejoin.tokens, rows_max)
        session.rejoin = rejoin
        return self.done(session)

    def done(self, session: StageSession) -> list[StageEffect]:
        """Let a session go on behind what the next stage lacked, once that has left."""
        if session.rejoin is None or session.pending:
            return []
        rejoin, session.rejoin = session.rejoin, None
        return [ForwardRejoin(rejoin)]

    @property
    def _sends_again(self) -> bool:
        # Where this stage is new too, it passes on what it is sent itself.
        return self.next_is_new and not self._is_new


def lost(rejoin: Rejoin) -> ForwardRejoin:
    """A session cannot go on where it was: it begins anew."""
    return ForwardRejoin(replace(rejoin, lost=True))
