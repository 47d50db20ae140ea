"""Background tasks and the errors of the block beside them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

import pytest

from atoll.net.tasks import background_tasks


async def test_the_blocks_own_error_leaves_as_it_came() -> None:
    with pytest.raises(ZeroDivisionError):
        await _fail_beside(asyncio.sleep(0))


async def _fail_beside(task: Coroutine[None, None, None]) -> None:
    async with background_tasks() as tasks:
        tasks.create_task(task)
        await asyncio.sleep(0)
        raise ZeroDivisionError


async def test_a_tasks_error_ends_the_block() -> None:
    async def fail() -> None:
        raise LookupError

    async def wait_beside() -> None:
        async with background_tasks() as tasks:
            tasks.create_task(fail())
            await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup) as caught:
        await wait_beside()
    assert isinstance(caught.value.exceptions[0], LookupError)


async def test_it_waits_for_its_tasks() -> None:
    async with background_tasks() as tasks:
        task = tasks.create_task(asyncio.sleep(0, "done"))
    assert task.result() == "done"
