"""Server-sent events: framing, and a bounded queue between generations and client.

While the queue is full the generations of this request wait, and nobody
else's. The writer joins the events that wait, so a slow client costs fewer
writes and not more memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.types import Send

DONE = b"[DONE]"
"""The data of a stream's last event."""

GOES_ON = b": goes on\n"
NO_TOKEN_YET = b": no token yet\n"
WAITING = b": waiting for the ring\n"
"""Comments: clients pass over them, and see that the connection stands. No empty line
follows, which some of them take for the end of an event."""

HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    # Proxies that buffer would turn a stream into one late answer.
    (b"x-accel-buffering", b"no"),
]


def event(data: bytes, number: int) -> bytes:
    """One event; `data` is JSON on one line, `number` its id, by which a client goes on."""
    return b"id: %d\ndata: %b\n\n" % (number, data)


def error_event(data: bytes) -> bytes:
    """The last event of a stream that failed; clients that read only `data` see it too."""
    return b"event: error\ndata: " + data + b"\n\n"


class EventQueue:
    """Events on their way to one client.

    `opened` is true from the first `put` on: from then the status is 200 and
    an error can only be told as an event. `begun` is true once the status is sent.
    """

    def __init__(self, events_max: int) -> None:
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=events_max)
        self.opened = self.begun = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return self._queue.empty()

    async def put(self, data: bytes) -> None:
        """Add an event, waiting while the queue is full."""
        self.opened = True
        await self._queue.put(data)

    async def close(self) -> None:
        """Say that no event follows."""
        await self._queue.put(None)

    async def next_batch(self) -> tuple[bytes, bool]:
        """All events that wait, joined, and whether more may follow."""
        parts: list[bytes] = []
        part = await self._queue.get()
        while part is not None:
            parts.append(part)
            if self._queue.empty():
                return b"".join(parts), True
            part = self._queue.get_nowait()
        return b"".join(parts), False


async def write_events(
    events: EventQueue,
    send: Send,
    headers: list[tuple[bytes, bytes]],
    ending: Callable[[], object],
) -> None:
    """Send events until the queue is closed; the status goes out with the first.

    `ending` is called before the last part: after it the server takes the client
    for gone.
    """
    more = True
    while more:
        body, more = await events.next_batch()
        if not events.begun:
            events.begun = True
            await send({"type": "http.response.start", "status": 200, "headers": headers})
        if not more:
            ending()
        await send({"type": "http.response.body", "body": body, "more_body": more})
