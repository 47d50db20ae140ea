"""A kept stream in the hands of the one request that tells it."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Protocol

from atoll.api.errors import ApiError
from atoll.api.journal import End, Journal, Record, Token


@dataclass(slots=True)
class Entry:
    """A stream on the disk; `used_s` is when it was let go."""

    stream: str
    key: str
    idempotency: str
    digest: str
    n_bytes: int
    used_s: float
    holder: Held | None = None


class Owner(Protocol):
    """Who keeps the streams."""

    def append(self, entry: Entry, journal: Journal, record: Record) -> None:
        """Write a record of a stream that is held."""
        ...

    def forget(self, entry: Entry) -> None:
        """Delete a stream."""
        ...

    def let_go(self, entry: Entry, held: Held) -> None:
        """Nobody holds it any more."""
        ...


class Held:
    """A stream in the hands of one request, which lets it go in the end.

    `goes_on`: earlier requests held it; `tokens` are those of theirs that this one has yet
    to tell. `taken` is set once another wants it.
    """

    def __init__(self, owner: Owner, entry: Entry) -> None:
        self._owner, self._entry = owner, entry
        self._journal: Journal | None = None
        self.tokens: deque[Token] = deque()
        self.goes_on = False
        self.ended = False
        self.taken = asyncio.Event()
        self.released = asyncio.Event()

    @property
    def stream(self) -> str:
        """The stream's id."""
        return self._entry.stream

    @property
    def is_kept(self) -> bool:
        """Whether it can be gone on with later."""
        return self._journal is not None

    @property
    def is_retried(self) -> bool:
        """Whether the client gave the request a key of its own, by which it finds it again."""
        return bool(self._entry.idempotency)

    def begin(self, journal: Journal) -> None:
        """Write to this journal from now on."""
        self._journal = journal

    def note(self, token: Token) -> None:
        """Write a token down, before any client sees it."""
        self._append(token)

    def end(self) -> None:
        """Every choice has ended."""
        if not self.ended:
            self.ended = True
            self._append(End())

    def _append(self, record: Record) -> None:
        if self._journal is not None:
            self._owner.append(self._entry, self._journal, record)

    async def wait_taken(self) -> None:
        """Wait until another request wants it.

        Raises:
            TakenOver: One does.
        """
        await self.taken.wait()
        raise TakenOver

    def drop(self) -> None:
        """It is not to be gone on with: nothing came of it."""
        self._owner.forget(self._entry)

    def cease(self) -> Journal | None:
        """Write no more; returns the journal, if there was one."""
        journal, self._journal = self._journal, None
        return journal

    def release(self) -> None:
        """Let it go; more than once changes nothing."""
        if not self.released.is_set():
            self.released.set()
            self._owner.let_go(self._entry, self)


class TakenOver(ApiError):
    """Another request of the same client goes on with the stream."""

    def __init__(self) -> None:
        super().__init__(
            "another request of this API key has taken over the stream",
            hint="read there",
            status=409,
            code="stream_taken_over",
        )


def no_such_stream() -> ApiError:
    """What everybody is told who may not have a stream, whether it is there or not."""
    return ApiError(
        "there is no such stream for this API key",
        hint="streams are kept for a while after they were last read; ask anew",
        status=404,
        code="stream_not_found",
    )
