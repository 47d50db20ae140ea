"""The client's end of a connection: when it leaves, and when it stops reading."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from starlette.types import Message, Receive, Scope, Send

log = logging.getLogger(__name__)

ABORT_EXTENSION = "atoll.abort"
"""ASGI extension of our protocol class: `scope["extensions"][...]["abort"]()`
drops the connection at once, without waiting for the client to take the rest."""

_ABORT_WAIT_S = 5.0


class ClientGone(Exception):
    """The client hung up or was cut off; there is nobody to answer."""


async def watch_client(receive: Receive) -> None:
    """Wait until the client hangs up, then raise `ClientGone`."""
    await _wait_disconnect(receive)
    raise ClientGone


async def _wait_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def bounded_send(scope: Scope, receive: Receive, send: Send, timeout_s: float) -> Send:
    """A `send` that cuts off a client which takes nothing for `timeout_s`.

    It then waits until the server knows of the cut, as the server takes an
    application that returns earlier for one that forgot the rest of its
    answer, and raises `ClientGone`.
    """

    async def send_bounded(message: Message) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await send(message)
        except TimeoutError:
            abort: Callable[[], None] = scope["extensions"][ABORT_EXTENSION]["abort"]
            log.warning("client.dropped reason=reads-nothing timeout_s=%g", timeout_s)
            abort()
            async with asyncio.timeout(_ABORT_WAIT_S):
                await _wait_disconnect(receive)
            raise ClientGone from None

    return send_bounded
