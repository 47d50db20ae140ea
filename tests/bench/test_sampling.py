"""The test of sampling with guesses, and that it would notice."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from atoll.domain.generation import Sampled
from atoll.engine.ends import EndsEngine
from atoll.engine.ends_messages import Tail
from atoll.engine.llama import Rows
from atoll.store.layout import Store
from bench import sampling


@pytest.mark.parametrize(
    ("statistic", "freedom", "wanted"),
    # Tables of the chi-squared distribution (Abramowitz and Stegun, table 26.8).
    [(3.841, 1, 0.05), (5.991, 2, 0.05), (18.307, 10, 0.05), (23.209, 10, 0.01), (0.0, 4, 1.0)],
)
def test_p_values_are_those_of_the_tables(statistic: float, freedom: int, wanted: float) -> None:
    assert sampling.p_value(statistic, freedom) == pytest.approx(wanted, rel=1e-3)


def test_rare_tokens_are_one_cell() -> None:
    wanted = np.array([0.5, 0.3, *[0.002] * 100])
    counts = Counter({0: 50, 1: 30, 7: 20})
    statistic, freedom = sampling.chi_squared(counts, wanted)
    assert statistic == pytest.approx(0.0, abs=1e-9)
    assert freedom == 2


@pytest.mark.engine
def test_guesses_keep_the_distribution(test_store: Store, demo_model: Path, tmp_path: Path) -> None:
    model = test_store.resolve(str(demo_model))
    found = sampling.check(model, Store(tmp_path), 10_000)
    assert found["sampling_p_value"] >= 0.01
    assert found["checked"][0] == 10_000
    assert min(found["checked"]) > 100, "guesses were right often enough"


@pytest.mark.engine
@pytest.mark.long
def test_a_liking_for_guesses_would_be_noticed(
    test_store: Store, demo_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, asked = EndsEngine._choose, itertools.count()

    def biased(self: EndsEngine, item: Tail, logits: Sequence[Rows]) -> list[Sampled]:
        """Takes the guess for right once in five times, whatever was drawn."""
        found = honest(self, item, logits)
        if next(asked) % 5:
            return found
        return [replace(found[0], token=item.guesses[0])]

    monkeypatch.setattr(EndsEngine, "_choose", biased)
    found = sampling.check(test_store.resolve(str(demo_model)), Store(tmp_path), 10_000)
    assert found["sampling_p_value"] < 0.01
