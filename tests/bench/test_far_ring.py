from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from bench.far_contest import side_of
from bench.far_measures import PATH, answered
from bench.far_ring import DRAFT, LOOKUP, NONE, RingShape, known_modes, mode_options, open_far_ring
from bench.stream import stream

from atoll.gateway.options import RingOptions
from atoll.store.layout import Store

TOKENS = 6
DELAY_S = 0.02


def test_the_ways_to_decode_are_those_that_the_product_has() -> None:
    options = {field.name for field in dataclasses.fields(RingOptions)}
    assert (LOOKUP in known_modes()) == ("speculate" in options)
    assert (DRAFT in known_modes()) == ({"speculate", "draft"} <= options)
    for mode in known_modes():
        RingOptions(nodes=3, **mode_options(mode, Path("draft.gguf")))


@pytest.mark.engine
@pytest.mark.network
@pytest.mark.long
async def test_a_ring_is_linked_anew_at_another_distance_and_says_the_same(
    tmp_path: Path, random_model: Callable[..., Path]
) -> None:
    store = Store(tmp_path / "store")
    model = store.resolve(str(random_model(n_layers=5)))
    shape = RingShape(streams=2, context=64)
    async with open_far_ring(model, store, tmp_path, shape, mode_options(NONE, None)) as ring:
        side, prompt = side_of(ring), [5, 6, 7, 8]
        _, near = await answered(side, prompt, TOKENS)
        epoch = (await ring.status()).rings[0].epoch
        await ring.set_delay(DELAY_S)
        far_answer = await stream(side.endpoint, PATH, side.ask(prompt, TOKENS))
        # Four links a token, but for what comes with the first.
        took_s = far_answer.arrivals_s[-1] - far_answer.asked_s
        assert took_s >= 4 * DELAY_S * 0.95
        assert (await ring.status()).rings[0].epoch > epoch
        _, far = await answered(side, prompt, TOKENS)
        assert far == near
        await ring.set_delay(0.0)
        assert (await answered(side, prompt, TOKENS))[1] == near
