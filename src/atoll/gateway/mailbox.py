"""What a session gives, on its way from the driver's callbacks to a waiting handler."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from atoll.domain.errors import AtollError
from atoll.domain.generation import Sampled


class Mailbox:
    """One reader waits for tokens; the driver puts them without waiting.

    How many may wait is the driver's to bound (`brakes`).
    """

    def __init__(self) -> None:
        self._items: deque[Sampled] = deque()
        self._error: AtollError | None = None
        self._filled = asyncio.Event()
        self.on_read: Callable[[], None] | None = None
        """Called after each token that is taken out."""

    @property
    def unread(self) -> int:
        """Tokens that wait."""
        return len(self._items)

    def put(self, sampled: Sampled) -> None:
        """Add a token."""
        self._items.append(sampled)
        self._filled.set()

    def fail(self, error: AtollError) -> None:
        """Nothing more comes; the reader gets the error after the tokens so far."""
        self._error = self._error or error
        self._filled.set()

    async def get(self) -> Sampled:
        """The next token.

        Raises:
            AtollError: The session failed.
        """
        while not self._items:
            if self._error is not None:
                raise self._error
            self._filled.clear()
            await self._filled.wait()
        sampled = self._items.popleft()
        if self.on_read is not None:
            self.on_read()
        return sampled
