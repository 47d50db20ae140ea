"""What the draft model computes next: prompts it has yet to read, and guesses.

It reads what a session has said so far before it guesses how it goes on. What it has
read of a slot's text stays in its cache, so that only what is new is given to it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from atoll.domain.ids import Slot
from atoll.ring.coordinator_config import CoordinatorConfig
from atoll.ring.coordinator_messages import DraftItem, RunDraft
from atoll.ring.pace import Pace
from atoll.ring.session import Session

CHUNK_ROWS = 64
"""Tokens that are read in one call; others' guesses wait meanwhile."""
EARLY_ROWS = 256
"""Tokens of a prompt that are read while it enters the ring. Reading takes cores and memory
from whoever computes it on the same machine: 1,024 tokens entered in 6.7 s beside it, and in
4.9 s without."""


@dataclass(frozen=True, slots=True, eq=False)
class _Turn:
    """What is computed of a session; `text` is what will have been read."""

    session: Session
    item: DraftItem
    text: list[int]


class DraftTurns:
    """Gives the draft model one batch at a time.

    Args:
        config: Says whether there is a draft model.
        pace: The ring's; told what a guess takes.
    """

    def __init__(self, config: CoordinatorConfig, pace: Pace) -> None:
        self._pace = pace
        self._read: dict[Slot, list[int]] = {}
        self._running: list[_Turn] | None = None
        pace.has_model = config.draft_model
        self._guessed = False

    def begin(self, sessions: Iterable[Session]) -> RunDraft | None:
        """The next batch, guesses and reading in turns where both wait; None while one runs."""
        if self._running is not None or not self._pace.has_model:
            return None
        known = list(sessions)
        reading = [turn for s in known if (turn := self._read_on(s)) is not None]
        turns: list[_Turn] = []
        if not (reading and self._guessed):
            turns = [turn for s in known if (turn := self._guess(s)) is not None]
        self._guessed = bool(turns)
        turns = turns or reading[:1]
        if not turns:
            return None
        self._running = turns
        return RunDraft(tuple(turn.item for turn in turns))

    def end(self, guesses: Iterable[tuple[int, ...] | None], took_s: float) -> None:
        """The running batch is done.

        Args:
            guesses: Of each item; None where it failed.
            took_s: Seconds.
        """
        turns, self._running = self._running or [], None
        most = 0
        for turn, found in zip(turns, guesses, strict=False):
            most = max(most, len(found or ()))
            # Of what failed nothing is known to be read.
            self._read[turn.item.slot] = [] if found is None else [*turn.text, *found[:-1]]
            speculation = turn.session.speculation
            if speculation is None:
                continue
            if turn.item.n:
                speculation.drafted(found or ())
            if found is None:
                # It would most likely fail again, and again.
                speculation.forgo_model()
        if most and took_s > 0:
            self._pace.note_draft(took_s / most)

    def gone(self) -> None:
        """There is no draft model any more."""
        self._pace.has_model = False
        self.end([None] * len(self._running or ()), 0.0)
        self._read.clear()

    def _read_on(self, session: Session) -> _Turn | None:
        """More of what a session has said, where much is left or it has yet to be asked."""
        speculation = session.speculation
        if not session.live or speculation is None or not speculation.uses_model:
            return None
        keep = self._known(session.slot, session.tokens)
        if session.decoding and len(session.tokens) - keep <= CHUNK_ROWS:
            return None
        # The last token is read with the first guess.
        end = len(session.tokens) - 1
        if not session.decoding:
            end = min(end, EARLY_ROWS)
        more = session.tokens[keep : min(end, keep + CHUNK_ROWS)]
        if not more:
            return None
        return self._turn(session, keep, session.tokens[: keep + len(more)], (), 0)

    def _guess(self, session: Session) -> _Turn | None:
        """A session's next guesses, once nearly all that it said is read."""
        speculation = session.speculation
        if speculation is None or not session.decoding:
            return None
        if len(session.tokens) - self._known(session.slot, session.tokens) > CHUNK_ROWS:
            return None
        asked = speculation.ask(session.tokens_max - session.sampled)
        if asked is None:
            return None
        text = [*session.tokens, *asked.line[1:]]
        return self._turn(session, self._known(session.slot, text), text, asked.hints, asked.n)

    def _turn(
        self, session: Session, keep: int, text: list[int], hints: tuple[int, ...], n: int
    ) -> _Turn:
        tokens = tuple(text[keep:])
        item = DraftItem(session.slot, keep, tokens, hints, n, session.request.sampling)
        return _Turn(session, item, text)

    def _known(self, slot: Slot, text: list[int]) -> int:
        """How many tokens of a text were read; the last is read again to go on from it."""
        read = self._read.get(slot, [])
        most = min(len(read), len(text) - 1)
        if read[:most] == text[:most]:
            return most
        return next(i for i in range(most) if read[i] != text[i])
