"""A streamed answer over several connections: where one breaks, the next goes on.

Knows no HTTP: `read` opens a connection and gives its events.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Container
from contextlib import aclosing
from dataclasses import dataclass

from atoll.client.sse import Event
from atoll.domain.errors import AtollError

GIVE_UP_S = 120.0
"""How long nothing may come before the answer is given up: a gateway that is started anew
has to load its model and find its nodes."""
FIRST_PAUSE_S = 0.2
PAUSE_MAX_S = 5.0
UNREACHED = 0
PASSING = frozenset({UNREACHED, 429, 502, 503, 504})
"""HTTP statuses after which the same request may fare better; 0: there was no answer."""


class ApiFault(AtollError):
    """The API cannot be reached, refused, or answered what nobody understands.

    `status` is the HTTP status; 0 where none came.
    """

    exit_code = 7

    def __init__(self, problem: str, *, hint: str = "", status: int = 0) -> None:
        super().__init__(problem, hint=hint)
        self.status = status


@dataclass(slots=True)
class Place:
    """How far a stream was read: its id and that of its last event; empty before there is one."""

    stream: str = ""
    last: str = ""


Read = Callable[[Place], AsyncGenerator[Event, None]]


async def events_of(
    read: Read,
    *,
    passing: Container[int],
    renew: Callable[[], Awaitable[None]],
    tell: Callable[[str], None],
) -> AsyncGenerator[Event, None]:
    """The events of one answer, each once.

    Args:
        read: Opens a connection, from the place on, which it notes when it knows it; a
            stream without an end just ends.
        passing: HTTP statuses that say nothing about the next attempt.
        renew: Called before each further attempt: the server may be elsewhere by now.
        tell: Takes a line when the connection broke.

    Raises:
        ApiFault: It broke and could not be gone on with.
    """
    place = Place()
    broke: ApiFault | None = None
    until_s = pause_s = 0.0
    while True:
        fault = ApiFault("the answer broke off: the server closed the connection", hint="ask again")
        try:
            async with aclosing(read(place)) as events:
                async for event in events:
                    broke = None
                    yield event
                    place.last = event.id or place.last
        except ApiFault as error:
            fault = error
        now_s = time.monotonic()
        if broke is None:
            broke, until_s, pause_s = fault, now_s + GIVE_UP_S, FIRST_PAUSE_S
            if place.stream:
                tell(f"{fault.problem}; trying to go on with the answer")
        if not place.stream or fault.status not in passing or now_s >= until_s:
            raise broke
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, PAUSE_MAX_S)
        await renew()
