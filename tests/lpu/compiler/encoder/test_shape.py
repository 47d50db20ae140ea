"""How layers divide into tiles, and shapes that do not."""

from __future__ import annotations

import pytest

from atoll.domain.errors import BadRequest
from atoll.lpu.compiler.encoder.shape import Shape
from atoll.lpu.machine import shipped_chips
from atoll.lpu.timing import Timing, shipped_assumed

TIMING = Timing(shipped_chips().find("Groq TSP"), shipped_assumed())


def test_bert() -> None:
    large, base = Shape(TIMING), Shape(TIMING, 768, 12, 3072, 384)
    assert (large.head, large.group, large.tiles, large.block) == (64, 4, 4, 192)
    assert (base.head, base.group, base.tiles, base.block) == (64, 4, 3, 192)
    assert large.columns == [256] * 4
    assert large.inner_columns == [320] * 12 + [256]


@pytest.mark.parametrize(
    ("sizes", "problem"),
    [
        ((100, 3, 100, 32), "do not divide into 3 heads"),
        ((700, 2, 100, 32), "head of 350"),
        ((1600, 5, 100, 32), "more rows than accumulators"),
        ((2560, 40, 100, 32), "10 tiles"),
        ((128, 2, 100, 33), "equal blocks of even size"),
    ],
)
def test_shapes_that_cannot_be_tiled(sizes: tuple[int, int, int, int], problem: str) -> None:
    with pytest.raises(BadRequest, match=problem):
        Shape(TIMING, *sizes)
