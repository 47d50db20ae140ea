"""Guessed tokens on a real ring: several come of one loop, and every answer is the same."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from tests.support.rings import Ring, open_ring

from atoll.domain.generation import GenerateRequest, Sampled, SamplingParams
from atoll.gateway import ring_driver
from atoll.gateway.options import RingOptions
from atoll.ring.coordinator import Coordinator
from atoll.store.layout import Store

pytestmark = [pytest.mark.engine, pytest.mark.network]

OPTIONS = RingOptions(nodes=2, streams=3, context=512, spin=1000, speculate="none")
GREEDY = SamplingParams(temperature=0.0)
WAYS = {
    "greedy": GREEDY,
    "sampled": SamplingParams(temperature=0.9, top_p=0.95, seed=7),
    "penalised": SamplingParams(temperature=0.7, repeat_penalty=1.1, frequency_penalty=0.2, seed=3),
}
# A text that repeats itself, as edited code and summaries do.
PROMPT = tuple([504, 3575, 282, 253, 2885, 6330, 28, 339] * 6)


async def answer(ring: Ring, sampling: SamplingParams, n: int = 60) -> list[Sampled]:
    request = GenerateRequest(PROMPT, n, sampling, exact=True, ignore_eos=True)
    found = [sampled async for sampled in ring.gateway.conductor.generate(request)]
    return [replace(sampled, cached=0) for sampled in found]


async def answers(
    store: Store, model: Path, folder: Path, options: RingOptions
) -> tuple[dict[str, list[Sampled]], list[list[Sampled]], tuple[int, int]]:
    """Each way alone, all of them at once, and how many guesses there were and were right."""
    async with open_ring(store.resolve(str(model)), store, folder, options) as ring:
        alone = {name: await answer(ring, way) for name, way in WAYS.items()}
        together = await asyncio.gather(*(answer(ring, way) for way in WAYS.values()))
        driver = ring.gateway.conductor.rings[0].driver
        assert driver is not None
        return alone, list(together), (driver.pace.guessed, driver.pace.right)


async def test_answers_are_the_same(test_store: Store, demo_model: Path, tmp_path: Path) -> None:
    plain, _, guesses = await answers(test_store, demo_model, tmp_path / "plain", OPTIONS)
    assert guesses == (0, 0)
    lookup = replace(OPTIONS, speculate="lookup")
    alone, together, guesses = await answers(test_store, demo_model, tmp_path / "lookup", lookup)
    assert alone == plain
    assert dict(zip(WAYS, together, strict=True)) == plain
    guessed, right = guesses
    assert guessed >= right > 0


class Wrong:
    """Guesses what is never said."""

    def accept(self, tokens: Sequence[int]) -> None:
        """It learns nothing."""

    def propose(self, after: Sequence[int], n: int) -> list[int]:
        return [0] * n


async def test_a_drafter_that_is_always_wrong_changes_no_answer_and_gives_up(
    test_store: Store, demo_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, _, _ = await answers(test_store, demo_model, tmp_path / "plain", OPTIONS)
    wrong = partial(Coordinator, drafter=lambda _request: Wrong())
    monkeypatch.setattr(ring_driver, "Coordinator", wrong)
    lookup = replace(OPTIONS, speculate="lookup", reuse=False)
    alone, together, guesses = await answers(test_store, demo_model, tmp_path / "wrong", lookup)
    assert alone == plain
    assert dict(zip(WAYS, together, strict=True)) == plain
    guessed, right = guesses
    assert 0 < guessed < 60
    assert right == 0
