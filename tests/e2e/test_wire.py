"""Rings whose hidden states travel as bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.e2e.conftest import OpenSmall
from tests.support.rings import Ring

from atoll.domain.measure import WindowTime
from atoll.domain.wire import F16_SCALED, F32, I8_BLOCKS, row_bytes
from atoll.engine.whole import WholeModel
from atoll.gateway import conductor as conductor_module
from atoll.gateway.casting import Times
from atoll.plan.fleet import LinkEntry, Machine
from atoll.store.layout import FoundModel

pytestmark = [
    pytest.mark.engine,
    pytest.mark.network,
    pytest.mark.usefixtures("own_children"),
]
PROMPT, TOKENS, WIDTH = tuple(range(3, 60)), 12, 64
ROWS = len(PROMPT) + TOKENS - 1


def whole_tokens(model: Path) -> tuple[int, ...]:
    whole = WholeModel(model, n_slots=1, context=256, threads=1)
    found = whole.greedy([PROMPT], TOKENS, exact=True, stop_at_end=False).tokens[0]
    whole.close()
    return found


async def sent_for(ring: Ring, *, exact: bool) -> tuple[tuple[int, ...], int]:
    """Tokens of an answer, and the bytes that the gateway sent to the first stage for it."""

    def sent() -> int:
        return ring.status.rings[0].links[0].sent_bytes

    before = sent()
    return await ring.tokens(PROMPT, TOKENS, exact=exact), sent() - before


async def test_rows_are_bytes_and_an_exact_answer_is_the_whole_models(
    small: FoundModel, open_small: OpenSmall
) -> None:
    wanted = whole_tokens(small.path)
    async with open_small(wire="int8", speculate="none", reuse=False) as ring:
        assert ring.status.rings[0].wire == I8_BLOCKS
        tokens, sent = await sent_for(ring, exact=False)
        assert len(tokens) == TOKENS
        assert ROWS * row_bytes(I8_BLOCKS, WIDTH) < sent < ROWS * row_bytes(F16_SCALED, WIDTH)
        exact, sent = await sent_for(ring, exact=True)
        assert exact == wanted
        assert sent > ROWS * row_bytes(F32, WIDTH)
        # Nothing is left behind that would change another answer.
        assert await ring.tokens(PROMPT, TOKENS, exact=False) == tokens


@pytest.mark.parametrize(("bytes_per_s", "wire"), [(1e4, I8_BLOCKS), (1e9, F16_SCALED)])
async def test_a_planned_ring_with_a_slow_link_takes_bytes(
    open_small: OpenSmall, monkeypatch: pytest.MonkeyPatch, bytes_per_s: float, wire: str
) -> None:
    """On one machine no link is slow, so what is known of the links is made up."""
    times = tuple(WindowTime(rows, rows / 1e3) for rows in (1, 64))
    names = ("node-1", "node-2")
    made_up = Times(
        (WindowTime(1, 0.0001),),
        {name: Machine(name, 1 << 30, times, host=name) for name in names},
        tuple(LinkEntry("gateway", name, 0.0, bytes_per_s) for name in names),
    )
    monkeypatch.setattr(conductor_module, "known_times", lambda *_args: made_up)
    async with open_small(plan="auto") as ring:
        [status] = ring.status.rings
        assert status.plan is not None
        assert (status.plan.chunk_link_ms > status.plan.chunk_ms) == (wire == I8_BLOCKS)
        assert status.wire == wire
        assert len(await ring.tokens(PROMPT, 4, exact=False)) == 4
