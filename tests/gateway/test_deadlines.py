"""A request that runs past its deadline ends, and what it held is given back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from atoll.domain.errors import DeadlineExceeded
from atoll.domain.generation import Sampled
from atoll.gateway.deadlines import within

ONE, LAST = Sampled(1, b"one"), Sampled(2, b"two", "stop")


class Source:
    """Tokens, then perhaps silence."""

    def __init__(self, *tokens: Sampled, then: BaseException | None = None, rest: bool = False):
        self.tokens, self.then, self.rest = tokens, then, rest
        self.closed = False

    async def run(self) -> AsyncGenerator[Sampled, None]:
        try:
            for sampled in self.tokens:
                yield sampled
            if self.then is not None:
                raise self.then
            if self.rest:
                await asyncio.Event().wait()
        finally:
            self.closed = True


async def collect(deadline_s: float | None, source: Source) -> list[Sampled]:
    return [sampled async for sampled in within(deadline_s, source.run())]


@pytest.mark.parametrize("deadline_s", [None, 60.0])
async def test_tokens_in_time(deadline_s: float | None) -> None:
    source = Source(ONE, LAST)
    assert await collect(deadline_s, source) == [ONE, LAST]
    assert source.closed


async def test_silence_ends() -> None:
    source = Source(ONE, rest=True)
    tokens = within(0.05, source.run())
    assert await anext(tokens) == ONE
    with pytest.raises(DeadlineExceeded, match=r"0\.05 s"):
        await anext(tokens)
    assert source.closed


async def test_no_time_at_all() -> None:
    source = Source(rest=True)
    with pytest.raises(DeadlineExceeded):
        await collect(0.0, source)


async def test_a_reader_that_is_late_gets_no_more() -> None:
    source = Source(ONE, ONE, LAST)
    tokens = within(0.05, source.run())
    assert await anext(tokens) == ONE
    await asyncio.sleep(0.1)
    with pytest.raises(DeadlineExceeded):
        await anext(tokens)
    assert source.closed


async def test_a_fault_of_the_source_is_its_own() -> None:
    for fault in (TimeoutError("its own"), ValueError("x")):
        source = Source(ONE, then=fault)
        with pytest.raises(type(fault)) as caught:
            await collect(60.0, source)
        assert caught.value is fault


async def test_closing_closes_the_source() -> None:
    source = Source(ONE, rest=True)
    tokens = within(60.0, source.run())
    assert await anext(tokens) == ONE
    await tokens.aclose()
    assert source.closed
