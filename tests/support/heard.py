"""Both ends of a link of messages, and what they heard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from atoll.domain.errors import LinkFault
from atoll.net.link import LinkSettings


class Heard:
    """A handler that keeps all it is told."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[Any] = asyncio.Queue()
        self.ended: asyncio.Future[LinkFault | None] = asyncio.get_running_loop().create_future()

    def on_message(self, message: Any) -> None:
        self.messages.put_nowait(message)

    def on_closed(self, reason: LinkFault | None) -> None:
        self.ended.set_result(reason)


@asynccontextmanager
async def linked(
    open_any_station: Any, kind: str, **settings: Any
) -> AsyncIterator[tuple[Any, Heard, Any, Heard]]:
    """A link of this kind over whatever the station carries it on, from both sides."""
    async with asyncio.timeout(20), open_any_station() as station:
        near = await getattr(station, f"dial_{kind}")(LinkSettings(**settings))
        far = await getattr(station, kind).get()
        near_heard, far_heard = Heard(), Heard()
        near.start(near_heard)
        far.start(far_heard)
        try:
            yield near, near_heard, far, far_heard
        finally:
            near.close()
            far.close()
            await near.wait_closed()
            await far.wait_closed()
