"""Which sessions may begin, and in which order prompts enter the ring."""

from __future__ import annotations

from collections import deque

from atoll.ring.coordinator_config import CoordinatorConfig
from atoll.ring.coordinator_messages import HeadItem, Rejected, Submit
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
    session, prompt = submit.session, len(submit.request.prompt)
    if not prompt or submit.request.max_tokens < 1:
        problem = "a session needs a prompt and at least one token to generate"
        return Rejected(session, "bad_request", problem)
    if prompt > config.context:
        problem = f"the prompt has {prompt} tokens, the context holds {config.context}"
        return Rejected(session, "too_long", problem)
    if not up:
        return Rejected(session, "ring_down", "the ring is not complete", config.retry_after_s)
    if active >= config.n_slots and waiting >= config.waiting_max:
        problem = f"{active} sessions run and {waiting} wait"
        return Rejected(session, "overloaded", problem, config.retry_after_s)
    return None


class Prefill:
    """Sessions with prompt left to enter, the next to have its turn first."""

    def __init__(self, config: CoordinatorConfig) -> None:
        self._config = config
        self._sessions: deque[Session] = deque()

    @property
    def waits(self) -> bool:
        """Whether anybody has prompt left."""
        return bool(self._sessions)

    def add(self, session: Session) -> None:
        """A session begins."""
        self._sessions.append(session)

    def drop(self, session: Session) -> None:
        """A session is over."""
        if session in self._sessions:
            self._sessions.remove(session)

    def clear(self) -> None:
        """All are over."""
        self._sessions.clear()

    def next_chunks(self, room: int) -> list[tuple[Session, HeadItem]]:
        """Chunks of the sessions whose turn it is, about one full chunk of rows in all.

        Args:
            room: Most chunks.
        """
        chunks: list[tuple[Session, HeadItem]] = []
        rows = 0
        for session in list(self._sessions):
            left = session.chunk_left
            if len(chunks) >= room or (chunks and rows + left > self._config.chunk_rows):
                break
            if session.chunks >= self._config.prefill_in_flight:
                continue
            chunks.append((session, session.next_chunk()))
            rows += left
            self._sessions.remove(session)
            if session.chunk_left:
                self._sessions.append(session)
        return chunks
