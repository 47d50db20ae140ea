"""What is laid into memory for a product over chips; results back are in test_product.py."""

from __future__ import annotations

import numpy as np
import pytest

from atoll.domain.errors import BadRequest
from atoll.lpu.compiler.spread.product import product
from atoll.lpu.compiler.spread.product_words import product_words
from atoll.lpu.machine import shipped_chips
from atoll.lpu.timing import Timing, shipped_assumed
from atoll.lpu.topology import build, shipped_systems

TIMING = Timing(shipped_chips().find("Groq TSP"), shipped_assumed())
NODES = build(shipped_systems().find("Dragonfly of 264"), nodes=2)


def test_every_block_has_words_of_its_size() -> None:
    made = product(TIMING, NODES, (200, 700, 1283), "int8", chips=7)
    x = np.random.default_rng(1).integers(-128, 128, (200, 700))
    w = np.random.default_rng(2).integers(-128, 128, (700, 1283))
    words = product_words(made, TIMING, x, w)
    for block in made.program.blocks:
        assert words(block.tensor).shape == (block.words, len(block.slices), TIMING.lanes)
    second = words("rows 1 2").view(np.int8)[:, 0]
    assert (second[:, :60] == x[made.blocks[1].start : made.blocks[1].stop, 640:]).all()
    assert (second[:, 60:] == 0).all()
    tile = words("weights 1 2").view(np.int8).reshape(-1, TIMING.lanes)
    assert (tile == w[320:640, 640:960].T).all()
    # Three columns of the last tile, and what of its depth the matrix has.
    last = words("weights 2 4").view(np.int8).reshape(-1, TIMING.lanes)
    assert (last[:3, :60] == w[640:, 1280:].T).all()
    assert (last[3:] == 0).all()
    assert (last[:, 60:] == 0).all()


def test_of_another_shape() -> None:
    made = product(TIMING, NODES, (2, 320, 8), "int8")
    with pytest.raises(BadRequest, match=r"rows \(2, 320\) and weights \(320, 9\)"):
        product_words(made, TIMING, np.zeros((2, 320)), np.zeros((320, 9)))
