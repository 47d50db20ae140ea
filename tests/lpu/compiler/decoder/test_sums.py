"""Products added up over the chips of a group, each with its own order of blocks."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.lpu_rig import LANES, Rig

from atoll.lpu.compiler.decoder.sums import add_product, order


def test_each_chip_begins_with_its_own_block() -> None:
    assert [order(7, 3, chip) for chip in range(3)] == [
        [0, 1, 2, 3, 4, 5, 6],
        [1, 2, 0, 4, 5, 3, 6],
        [2, 0, 1, 5, 3, 4, 6],
    ]
    assert order(2, 3, 1) == [0, 1]


@pytest.mark.parametrize(
    ("chips", "blocks"),
    [
        *((1, 2), (2, 1), (2, 5), (3, 2), (3, 7)),
        *(pytest.param(8, blocks, marks=pytest.mark.long) for blocks in (1, 9, 19)),
    ],
)
def test_all_chips_have_the_sum(chips: int, blocks: int) -> None:
    rng = np.random.default_rng(chips * 100 + blocks)
    rig = Rig(chips=chips)
    weights = rng.integers(-3, 4, (chips, LANES, blocks, LANES)).astype(np.float64)
    x = rng.integers(-3, 4, (chips, 1, LANES)).astype(np.float64)
    before = rng.integers(-9, 9, (blocks, LANES)).astype(np.float64)
    orders = [order(blocks, chips, chip) for chip in range(chips)]
    residual = rig.put(np.stack([before[o] for o in orders]), "f32", first=40)
    residual.there = [0] * blocks
    placed = np.stack([weights[c][:, orders[c]].reshape(LANES, -1) for c in range(chips)])
    matrix = rig.matrix(placed, None)
    add_product(rig.builder, rig.put(x, "f16"), matrix, residual)
    rig.run()
    wanted = before + sum(
        (x[c, 0] @ weights[c].reshape(LANES, -1)).reshape(blocks, LANES) for c in range(chips)
    )
    for chip in range(chips):
        assert np.array_equal(rig.get(residual, chip), wanted[orders[chip]])
