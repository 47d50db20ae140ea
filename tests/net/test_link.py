from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from atoll.domain.control import ControlMessage, Leave
from atoll.domain.errors import LinkFault
from atoll.net.link import ControlInbox, ControlLink, DataLimits, LinkLost


class Wire:
    """Stands where a link would and notes its handler; no socket is needed here."""

    handler: Any = None

    def start(self, handler: Any) -> None:
        self.handler = handler


def an_inbox(limit: int) -> tuple[ControlInbox, Any]:
    wire = Wire()
    inbox = ControlInbox(cast(ControlLink, wire), limit=limit)
    assert wire.handler is inbox
    return inbox, wire.handler


async def drain(inbox: ControlInbox) -> tuple[list[ControlMessage], LinkFault | None]:
    """All an inbox gives, and the reason it ended with."""
    got: list[ControlMessage] = []
    try:
        async with asyncio.timeout(5):
            async for message in inbox:
                got.append(message)
    except LinkFault as fault:
        return got, fault
    return got, None


async def test_inbox_gives_all_that_came_and_then_the_reason() -> None:
    inbox, handler = an_inbox(limit=2)
    handler.on_message(Leave("one"))
    handler.on_message(Leave("two"))
    with pytest.raises(LinkFault, match="more than 2"):
        handler.on_message(Leave("three"))
    handler.on_closed(LinkLost("gone"))
    got, reason = await drain(inbox)
    assert got == [Leave("one"), Leave("two")]
    assert "gone" in str(reason)


async def test_inbox_ends_quietly_when_we_closed() -> None:
    inbox, handler = an_inbox(limit=2)
    handler.on_closed(None)
    assert await drain(inbox) == ([], None)


@pytest.mark.parametrize(("n_embd", "rows_max"), [(0, 1), (1, 0), (1, 4097), (2**21, 1), (-1, 1)])
def test_limits_are_checked(n_embd: int, rows_max: int) -> None:
    with pytest.raises(ValueError, match="out of range"):
        DataLimits(n_embd, rows_max)
