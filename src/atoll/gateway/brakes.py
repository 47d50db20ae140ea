"""Brakes: a session whose client does not keep up computes no further until it has read.

What the ring computes ahead of its client is bounded by tokens, so that a client that
reads nothing costs a bounded memory, and the machines no work for an answer that nobody may
want. A paused session keeps its slot; so it may be paused for so long and no longer.

Source: docs/adr/0024-admission.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from atoll.domain.errors import SlowReader
from atoll.domain.ids import SessionId
from atoll.gateway.mailbox import Mailbox

UNREAD_MAX = 1024
"""Tokens that a client may be behind; the buffers of its connection hold some thousands more."""
HELD_S_MAX = 30.0
"""A client that in this time has not read half of them is given up."""


class Brakes:
    """Watches over what sessions have given and nobody has read.

    Args:
        hold: Pauses a session, or lets it go on.
        give_up: Ends a session.
        unread_max: Tokens.
        held_s_max: Longest pause, seconds.
    """

    def __init__(
        self,
        hold: Callable[[SessionId, bool], None],
        give_up: Callable[[SessionId], None],
        *,
        unread_max: int = UNREAD_MAX,
        held_s_max: float = HELD_S_MAX,
    ) -> None:
        self._hold = hold
        self._give_up = give_up
        self._unread_max = unread_max
        self._held_s_max = held_s_max
        self._held: dict[SessionId, asyncio.TimerHandle] = {}

    @property
    def held(self) -> int:
        """Sessions that are paused."""
        return len(self._held)

    def filled(self, session: SessionId, mailbox: Mailbox) -> None:
        """A token was put; the session is paused soon if that was one too many."""
        if mailbox.unread < self._unread_max or session in self._held:
            return
        loop = asyncio.get_running_loop()
        give_up = partial(self._late, session, mailbox)
        self._held[session] = loop.call_later(self._held_s_max, give_up)
        mailbox.on_read = partial(self._read, session, mailbox)
        # Not now: the driver is in the middle of what the coordinator wants.
        loop.call_soon(self._hold_if_held, session)

    def over(self, session: SessionId) -> None:
        """The session has ended."""
        timer = self._held.pop(session, None)
        if timer is not None:
            timer.cancel()

    def close(self) -> None:
        """All have ended."""
        for session in list(self._held):
            self.over(session)

    def _hold_if_held(self, session: SessionId) -> None:
        if session in self._held:
            self._hold(session, True)

    def _read(self, session: SessionId, mailbox: Mailbox) -> None:
        if session in self._held and mailbox.unread <= self._unread_max // 2:
            self.over(session)
            mailbox.on_read = None
            self._hold(session, False)

    def _late(self, session: SessionId, mailbox: Mailbox) -> None:
        self._held.pop(session, None)
        mailbox.on_read = None
        mailbox.fail(
            SlowReader(
                f"the client was {mailbox.unread} tokens behind for {self._held_s_max:g} s",
                hint="read the stream as it comes, or ask for fewer tokens at a time",
            )
        )
        self._give_up(session)
