"""Where new requests wait while the ring is rearranged, so that none is turned away for it."""

from __future__ import annotations

import asyncio
import contextlib

from atoll.domain.errors import Overloaded

HOLD_S = 120.0
"""Longest wait; who waited so long goes on and finds the ring as it is."""
RETRY_AFTER_S = 5


class Turnstile:
    """Lets requests through, or holds up to `waiting_max` of them.

    Args:
        waiting_max: More are refused at once.
    """

    def __init__(self, waiting_max: int) -> None:
        self._waiting_max = waiting_max
        self._waiting = 0
        self._open = asyncio.Event()
        self._open.set()

    @property
    def is_shut(self) -> bool:
        """Whether requests are held now."""
        return not self._open.is_set()

    def shut(self) -> None:
        """Hold requests from now on."""
        self._open.clear()

    def open(self) -> None:
        """Let those go on that wait, in the order of their coming."""
        self._open.set()

    async def wait(self) -> None:
        """Go through, at once or when it opens, or after `HOLD_S`.

        Raises:
            Overloaded: Too many wait already.
        """
        if self._open.is_set():
            return
        if self._waiting >= self._waiting_max:
            raise Overloaded(
                "too many requests wait for the ring to be rearranged", retry_after_s=RETRY_AFTER_S
            )
        self._waiting += 1
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HOLD_S):
                    await self._open.wait()
        finally:
            self._waiting -= 1
