"""Which of the windows that wait at a stage its engine computes next.

The oldest goes first, unless that is a chunk of a prompt and the engine has just
computed another one: what waited meanwhile goes before it. So nobody's next token
waits for more than one call with chunks, at any stage; and as only windows that were
there already may pass, a chunk does not wait for ever either.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from atoll.domain.ids import SessionId
from atoll.domain.wire import Window
from atoll.ring.messages import Payload
from atoll.ring.stage_messages import BatchItem, StageConfig
from atoll.ring.stage_session import StageSession


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """A window with its payload and the session it was accepted for.

    No payload: the driver has it, as it was sent before.
    """

    session: StageSession
    window: Window
    payload: Payload | None

    def item(self) -> BatchItem:
        """Its part in an engine call."""
        w, payload = self.window, self.payload
        assert payload is not None, "what was sent before is not computed again"
        return BatchItem(w.session, w.slot, w.keep, w.rows, w.exact, w.encoding, payload)


class StageTurns:
    """Forms batches of what waits.

    Args:
        config: Bounds the rows of a batch, and says from which size on windows are chunks.
    """

    def __init__(self, config: StageConfig) -> None:
        self._config = config
        self._passing: list[Held] = []
        """What may go before the next chunk; those that were dropped since are not in the queue."""

    def is_chunk(self, window: Window) -> bool:
        """Whether a window holds a part of a prompt that takes long."""
        return window.rows > self._config.light_rows

    def over(self, batch: Sequence[Held], waiting: Iterable[Held]) -> None:
        """The engine is done with a batch.

        Args:
            batch: What it computed.
            waiting: What came meanwhile or before.
        """
        if self.is_chunk(batch[0].window):
            self._passing = [held for held in waiting if not self.is_chunk(held.window)]

    def take(self, queue: Sequence[Held]) -> tuple[list[Held], list[Held]]:
        """The next batch, and what of the queue is left.

        All windows of a batch are alike. It has one window of a session, and never a
        later one before an earlier one. Chunks go alone where somebody waits for them.

        Args:
            queue: Windows in the order they came, at least one.
        """
        due = self._first(queue)
        first = due.window
        alone = self.is_chunk(first) and not all(self.is_chunk(held.window) for held in queue)
        rows_max = first.rows if alone else self._config.rows_max
        batch: list[Held] = []
        rest: list[Held] = []
        seen: set[SessionId] = set()
        rows = first.rows
        for held in queue:
            window = held.window
            alike = window.rows == first.rows and window.exact == first.exact
            more = 0 if held is due else window.rows
            if alike and rows + more <= rows_max and window.session not in seen:
                batch.append(held)
                rows += more
            else:
                rest.append(held)
            seen.add(window.session)
        return batch, rest

    def _first(self, queue: Sequence[Held]) -> Held:
        oldest = queue[0]
        if not self.is_chunk(oldest.window):
            return oldest
        seen: set[SessionId] = set()
        for held in queue:
            if held in self._passing and held.window.session not in seen:
                return held
            seen.add(held.window.session)
        return oldest
