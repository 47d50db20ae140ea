"""Guessed tokens on a real ring: several come of one loop, and every answer is the same."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.rings import Ring, open_ring

from atoll.domain.generation import GenerateRequest, Sampled, SamplingParams
from atoll.gateway.options import RingOptions
from atoll.ring.drafting import LONGEST, Guess, Lookups
from atoll.store.layout import FoundModel, Store

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


async def answer(ring: Ring, sampling: SamplingParams, n: int = 24) -> list[Sampled]:
    request = GenerateRequest(PROMPT, n, sampling, exact=True, ignore_eos=True)
    found = [sampled async for sampled in ring.gateway.conductor.generate(request)]
    return [replace(sampled, cached=0) for sampled in found]


def guesses(ring: Ring) -> tuple[int, int]:
    """How many guesses there were, and how many were right."""
    driver = ring.gateway.conductor.rings[0].driver
    assert driver is not None
    return driver.pace.guessed, driver.pace.right


async def alone_and_together(ring: Ring) -> list[dict[str, list[Sampled]]]:
    alone = {name: await answer(ring, way) for name, way in WAYS.items()}
    together = await asyncio.gather(*(answer(ring, way) for way in WAYS.values()))
    return [alone, dict(zip(WAYS, together, strict=True))]


class Wrong:
    """Guesses what is never said."""

    def accept(self, tokens: Sequence[int]) -> None:
        """It learns nothing."""

    def propose(self, after: Sequence[int], n: int) -> list[Guess]:
        return [Guess(0, LONGEST - 1)] * n


async def test_answers_are_the_same_whether_guesses_are_right_or_always_wrong(
    test_store: Store, demo: FoundModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_ring(demo, test_store, tmp_path / "plain", OPTIONS) as ring:
        plain = {name: await answer(ring, way) for name, way in WAYS.items()}
        assert guesses(ring) == (0, 0)
    options = replace(OPTIONS, speculate="lookup")
    async with open_ring(demo, test_store, tmp_path / "lookup", options) as ring:
        assert await alone_and_together(ring) == [plain, plain]
        guessed, right = guesses(ring)
        assert guessed >= right > 0
        monkeypatch.setattr(Lookups, "__call__", lambda _self, _request: Wrong())
        assert await alone_and_together(ring) == [plain, plain]
        guessed_of_all, right_of_all = guesses(ring)
    # Whoever is always wrong gives up.
    assert 0 < guessed_of_all - guessed < 60
    assert right_of_all == right
