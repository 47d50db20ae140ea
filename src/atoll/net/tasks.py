"""A group of background tasks beside a block of code."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def background_tasks() -> AsyncIterator[asyncio.TaskGroup]:
    """A task group whose block's own error leaves as it came, not in a group.

    The block ends the tasks that do not end by themselves. Errors of tasks come
    as the group's do.
    """
    failure: Exception | None = None
    try:
        async with asyncio.TaskGroup() as tasks:
            try:
                yield tasks
            except Exception as error:
                failure = error
                raise
    except ExceptionGroup as group:
        if failure is not None and group.exceptions == (failure,):
            raise failure from None
        raise
