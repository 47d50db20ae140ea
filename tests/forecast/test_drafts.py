"""What drafts are worth."""

from __future__ import annotations

import random

import pytest

from atoll.domain.errors import BadRequest
from atoll.forecast.drafts import Drafts


@pytest.mark.parametrize(("depth", "right"), [(0, 0.9), (1, 0.5), (4, 0.7), (8, 0.9)])
def test_as_many_tokens_as_chance_gives(depth: int, right: float) -> None:
    rng = random.Random(1)
    total = 0
    for _ in range(20_000):
        while_right = next((i for i in range(depth) if rng.random() >= right), depth)
        total += while_right + 1
    assert Drafts(depth, right).tokens == pytest.approx(total / 20_000, rel=0.02)
    assert Drafts(depth, right).rows == depth + 1


@pytest.mark.parametrize(("depth", "right"), [(-1, 0.5), (65, 0.5), (4, 1.0), (4, -0.1), (4, 7.0)])
def test_what_cannot_be_is_refused(depth: int, right: float) -> None:
    with pytest.raises(BadRequest, match="guesses"):
        Drafts(depth, right)
