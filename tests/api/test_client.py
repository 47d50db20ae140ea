"""The client's end: a `send` that does not wait forever."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from atoll.api.client import ABORT_EXTENSION, ClientGone, bounded_send, watch_client


async def test_a_hang_up_is_raised() -> None:
    messages = [{"type": "http.request"}, {"type": "http.request"}, {"type": "http.disconnect"}]

    async def receive() -> Any:
        return messages.pop(0)

    with pytest.raises(ClientGone):
        await watch_client(receive)
    assert messages == []


async def test_a_send_that_does_not_end_cuts_the_client_off() -> None:
    gone = asyncio.Event()
    scope = {"extensions": {ABORT_EXTENSION: {"abort": gone.set}}}

    async def receive() -> Any:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(_message: Any) -> None:
        await asyncio.Event().wait()

    with pytest.raises(ClientGone):
        await bounded_send(scope, receive, send, 0.02)({"type": "http.response.body"})
    assert gone.is_set()


async def test_a_send_that_ends_is_left_alone() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("nobody asked")

    await bounded_send({}, receive, send, 1)({"type": "x"})
    assert sent == [{"type": "x"}]
