"""Events: framing, joining, and a queue that fills."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from atoll.api.sse import EventQueue, error_event, event, write_events


def test_framing() -> None:
    assert event(b"{}", 7) == b"id: 7\ndata: {}\n\n"
    assert error_event(b"{}") == b"event: error\ndata: {}\n\n"


async def test_events_that_wait_are_joined() -> None:
    events = EventQueue(8)
    for data in (b"a", b"b", b"c"):
        await events.put(data)
    assert await events.next_batch() == (b"abc", True)
    await events.put(b"d")
    await events.close()
    assert await events.next_batch() == (b"d", False)


async def test_the_first_event_decides_the_status() -> None:
    events = EventQueue(8)
    assert not events.opened
    await events.put(b"a")
    assert EventQueue(8).opened != events.opened


async def test_a_full_queue_makes_the_producer_wait() -> None:
    events = EventQueue(2)
    await events.put(b"x")
    await events.put(b"x")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(events.put(b"x"), 0.05)
    assert await events.next_batch() == (b"xx", True)


async def test_the_response_begins_with_the_first_event() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    events = EventQueue(2)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(write_events(events, send, [], lambda: sent.append("ending")))
        await asyncio.sleep(0.02)
        assert sent == []
        await events.put(b"a")
        await asyncio.sleep(0.02)
        assert [message["type"] for message in sent] == [
            "http.response.start",
            "http.response.body",
        ]
        await events.close()
    assert sent[-2:] == [
        "ending",
        {"type": "http.response.body", "body": b"", "more_body": False},
    ]
