"""What the ends compute next: returned windows, guesses, and chunks of prompts in turns."""

from __future__ import annotations

from dataclasses import dataclass

from atoll.ring.admission import Prefill
from atoll.ring.coordinator_config import CoordinatorConfig
from atoll.ring.coordinator_messages import EndsItem, RunEnds, TailItem
from atoll.ring.departures import Departures
from atoll.ring.returns import Returns
from atoll.ring.session import Session
from atoll.ring.tenants import Tenants


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """What the ends compute of a session; `seq` of a returned window, -1 of a head."""

    session: Session
    item: EndsItem
    seq: int = -1

    @property
    def decoded(self) -> int:
        """Rows whose next tokens are sampled; 0 of prompts and of what goes out."""
        item = self.item
        if not isinstance(item, TailItem) or self.session.is_prompt(item.keep):
            return 0
        return item.rows


class EndsTurns:
    """Gives the ends one batch at a time.

    Args:
        config: Bounds the rows of a batch.
        tenants: Whose tokens are guessed.
        prefill: Whose prompts have yet to enter.
        departures: Windows that are ready; no more are made where they would wait.
        returns: Windows that came back.
    """

    def __init__(
        self,
        config: CoordinatorConfig,
        tenants: Tenants,
        prefill: Prefill,
        departures: Departures,
        returns: Returns,
    ) -> None:
        self._config = config
        self._tenants = tenants
        self._prefill = prefill
        self._departures = departures
        self._returns = returns
        self._running: list[Turn] | None = None
        self._heads_ran = self._guesses_ran = self._chunk_ran = False

    @property
    def are_running(self) -> bool:
        """Whether a batch is with the ends."""
        return self._running is not None

    def begin(self) -> RunEnds | None:
        """The next batch, heads and tails in turns where both wait; None while one runs.

        Behind a chunk's head or tail goes what may bring somebody's next token, if it waits.
        """
        if self._running is not None:
            return None
        tails_due = self._heads_ran and self._returns.complete
        tails_due |= self._chunk_ran and self._returns.decode_waits
        turns = [] if tails_due else self._heads()
        self._heads_ran = bool(turns)
        if not turns and self._returns.complete:
            turns = [
                Turn(r.session, r.session.tail_item(r.window, r.payload), r.window.seq)
                for r in self._returns.take(self._config.rows_max, decode_first=self._chunk_ran)
            ]
        if not turns:
            return None
        self._chunk_ran = any(turn.session.is_prompt(turn.item.keep) for turn in turns)
        for turn in turns:
            turn.session.at_ends = True
        self._running = turns
        return RunEnds(tuple(turn.item for turn in turns))

    def end(self) -> list[Turn]:
        """The running batch has come to its end; its sessions have left the ends."""
        turns = self._running
        assert turns is not None, "the ends answered without being asked"
        self._running = None
        for turn in turns:
            turn.session.at_ends = False
            self._departures.step_done(turn.session.id, turn.seq)
        return turns

    def _heads(self) -> list[Turn]:
        """Sampled and guessed tokens, in turns with chunks of prompts where both wait."""
        heads: list[Turn] = []
        if not (self._guesses_ran and self._prefill.waits):
            for session in self._tenants.by_id.values():
                # More would only wait behind what has not left.
                if not self._departures.holds(session.id):
                    heads += [Turn(session, item) for item in session.next_guesses()]
        self._guesses_ran = bool(heads)
        if not heads:
            decoding = any(session.decoding for session in self._tenants.by_id.values())
            beside = self._departures.lanes_max if decoding else 0
            chunks = self._prefill.next_chunks(self._departures.room_for_chunks, beside=beside)
            heads = [Turn(session, item) for session, item in chunks]
        return heads
