"""Holding requests while the ring is rearranged."""

from __future__ import annotations

import asyncio

import pytest

from atoll.domain.errors import Overloaded
from atoll.gateway import turnstile
from atoll.gateway.turnstile import Turnstile


async def test_open_it_holds_nobody() -> None:
    await asyncio.wait_for(Turnstile(0).wait(), 1)


async def test_who_waits_goes_on_when_it_opens() -> None:
    one = Turnstile(2)
    one.shut()
    assert one.is_shut
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(one.wait()) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded) as caught:
            await one.wait()
        assert caught.value.retry_after_s > 0
        assert not any(task.done() for task in waiting)
        one.open()
    assert not one.is_shut


async def test_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turnstile, "HOLD_S", 0.02)
    one = Turnstile(1)
    one.shut()
    await asyncio.wait_for(one.wait(), 1)
    # Its place is free again.
    await asyncio.wait_for(one.wait(), 1)
