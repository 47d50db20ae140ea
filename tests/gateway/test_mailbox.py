"""Tokens on their way to whoever waits for them."""

from __future__ import annotations

import asyncio

import pytest

from atoll.domain.errors import RingDown
from atoll.domain.generation import Sampled
from atoll.gateway.mailbox import Mailbox


async def test_tokens_come_in_order_whoever_is_first() -> None:
    mailbox = Mailbox()
    mailbox.put(Sampled(1, b"a"))
    mailbox.put(Sampled(2, b"b"))
    assert [(await mailbox.get()).token for _ in range(2)] == [1, 2]
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(mailbox.get())
        await asyncio.sleep(0)
        mailbox.put(Sampled(3, b"c"))
    assert waiting.result().token == 3


async def test_an_error_comes_behind_the_tokens_and_stays() -> None:
    mailbox = Mailbox()
    mailbox.put(Sampled(1, b"a"))
    mailbox.fail(RingDown("first"))
    mailbox.fail(RingDown("second"))
    assert (await mailbox.get()).token == 1
    for _ in range(2):
        with pytest.raises(RingDown, match="first"):
            await mailbox.get()


async def test_an_error_wakes_who_waits() -> None:
    mailbox = Mailbox()
    asyncio.get_running_loop().call_soon(mailbox.fail, RingDown("gone"))
    with pytest.raises(RingDown, match="gone"):
        await mailbox.get()
