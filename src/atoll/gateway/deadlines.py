"""Deadlines: a request that runs past its own ends with an error that says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from atoll.domain.errors import DeadlineExceeded
from atoll.domain.generation import Sampled


async def within(
    deadline_s: float | None, tokens: AsyncGenerator[Sampled, None]
) -> AsyncGenerator[Sampled, None]:
    """Yield the tokens that come in time; `tokens` is closed at the end, whatever it is.

    Args:
        deadline_s: Seconds from the first step; None: no matter how many.
        tokens: A generation.

    Raises:
        DeadlineExceeded: The last token has not come.
    """
    async with aclosing(tokens):
        if deadline_s is None:
            async for sampled in tokens:
                yield sampled
            return
        at_s = asyncio.get_running_loop().time() + deadline_s
        while True:
            try:
                async with asyncio.timeout_at(at_s) as timeout:
                    sampled = await anext(tokens)
            except StopAsyncIteration:
                return
            except TimeoutError:
                if not timeout.expired():
                    raise
                raise _late(deadline_s) from None
            yield sampled
            # Who reads late would else get what was computed meanwhile, without an end.
            if sampled.finish is None and asyncio.get_running_loop().time() > at_s:
                raise _late(deadline_s)


def _late(deadline_s: float) -> DeadlineExceeded:
    return DeadlineExceeded(
        f"the answer was not done within {deadline_s:.3g} s",
        hint="give it more time (deadline_s), or ask for fewer tokens",
    )
