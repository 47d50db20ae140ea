"""Which sessions may begin, and in which order prompts enter the ring."""

from __future__ import annotations

import math
from collections import deque

from atoll.ring.coordinator_config import CoordinatorConfig
from atoll.ring.coordinator_messages import HeadItem, Rejected, Submit
from atoll.ring.line import Line
from atoll.ring.session import Session


def objection(
    submit: Submit, config: CoordinatorConfig, *, up: bool, active: int, waiting: int
) -> Rejected | None:
    """Why a session may not even wait, or None if it may.

    Args:
        submit: The session.
        config: The ring's limits.
        up: Whether the ring stands.
        active: Sessions that hold a slot.
        waiting: Sessions that wait for one.
    """
    session, prompt = submit.session, len(submit.request.known)
    if not submit.request.prompt or submit.request.max_tokens <= len(submit.request.sampled):
        problem = "a session needs a prompt and at least one token to generate"
        return Rejected(session, "bad_request", problem)
    if prompt > config.context:
        problem = f"the prompt has {prompt} tokens, the context holds {config.context}"
        return Rejected(session, "too_long", problem)
    if not up:
        return Rejected(session, "ring_down", "the ring is not complete", config.retry_after_s)
    if active >= config.n_slots and waiting >= config.waiting_max and not submit.again:
        problem = f"{active} sessions run and {waiting} wait"
        return Rejected(session, "overloaded", problem, config.retry_after_s)
    return None


def line_up(
    submit: Submit, line: Line, config: CoordinatorConfig, *, up: bool, active: int
) -> list[Rejected]:
    """Have a session wait, unless it may not; in a full line another may have to give way.

    Args:
        submit: The session.
        line: Where it waits.
        config: The ring's limits.
        up: Whether the ring stands.
        active: Sessions that hold a slot.

    Returns:
        Who is turned away, if anybody.
    """
    refusal = objection(submit, config, up=up, active=active, waiting=len(line))
    if refusal is None and submit.again:
        line.appendleft(submit)
        return []
    if refusal is not None:
        last = line.yields(submit.request.group, submit.request.priority)
        if refusal.code != "overloaded" or last is None:
            return [refusal]
        line.remove(last)
        problem = "others that go before it came while it waited"
        refusal = Rejected(last.session, "overloaded", problem, config.retry_after_s)
    line.append(submit)
    return [refusal] if refusal is not None else []


class Prefill:
    """Sessions with prompt left to enter, the next to have its turn first.

    Where nobody decodes prompts enter in large chunks, as many as the ring takes.
    While others do, in small ones, and with no more rows on their way than that many
    of these have: whoever waits for a next token waits for little else.
    """

    def __init__(self, config: CoordinatorConfig) -> None:
        self._config = config
        self._sessions: deque[Session] = deque()
        self._entering: list[Session] = []

    @property
    def waits(self) -> bool:
        """Whether anybody has prompt left."""
        return bool(self._sessions)

    @property
    def on_way(self) -> int:
        """Rows of prompts between head and tail."""
        self._entering = [session for session in self._entering if session.entering]
        return sum(session.entering for session in self._entering)

    def add(self, session: Session) -> None:
        """A session begins."""
        self._sessions.append(session)

    def drop(self, session: Session) -> None:
        """A session is over."""
        if session in self._sessions:
            self._sessions.remove(session)
        if session in self._entering:
            self._entering.remove(session)

    def clear(self) -> None:
        """All are over."""
        self._sessions.clear()
        self._entering.clear()

    def next_chunks(self, room: int, *, beside: int = 0) -> list[tuple[Session, HeadItem]]:
        """Chunks of the sessions whose turn it is, about one full chunk of rows in all.

        Args:
            room: Most windows.
            beside: Full chunks that may be on their way in all, as others decode; 0 where
                nobody does.
        """
        most, left = self._config.chunk_rows, math.inf
        if beside and self._config.beside_rows:
            most = min(most, self._config.beside_rows)
            left = beside * most - self.on_way
        chunks: list[tuple[Session, HeadItem]] = []
        total = 0
        for session in list(self._sessions):
            rows = session.next_rows(most)
            if len(chunks) >= room or rows > left or (chunks and total + rows > most):
                break
            if session.chunks >= self._config.prefill_in_flight:
                continue
            chunks.append((session, session.next_chunk(most)))
            total, left = total + rows, left - rows
            if session not in self._entering:
                self._entering.append(session)
            self._sessions.remove(session)
            if session.prompt_left:
                self._sessions.append(session)
        return chunks
