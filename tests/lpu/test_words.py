"""Numbers as words of memory."""

from __future__ import annotations

import numpy as np
import pytest

from atoll.lpu.compiler.memory import BLOCK_COLUMNS
from atoll.lpu.program import Number
from atoll.lpu.words import (
    scales_of,
    some,
    tile_of_halves,
    tile_of_integers,
    value_of,
    value_words,
    wide,
)

RNG = np.random.default_rng(4)


@pytest.mark.parametrize(("number", "size"), [("f16", 2), ("f32", 4)])
def test_a_value_there_and_back(number: Number, size: int) -> None:
    values = np.arange(-350, 350, dtype=np.float32)
    words = value_words(values, number, 320)
    assert words.shape == (3, size, 320)
    assert np.array_equal(value_of(words, number, 700), values)
    assert not words[2, :, 60:].any()


def test_rows_beyond_the_end_are_zeros() -> None:
    rows = np.ones((5, 3), np.float32)
    assert some(rows, 4, 3).tolist() == [[1, 1, 1], [0, 0, 0], [0, 0, 0]]
    assert wide(rows, 4).shape == (8, 3)


def test_a_tile_of_halves_has_sixteen_columns_beside_each_other() -> None:
    columns = RNG.standard_normal((320, 48)).astype(np.float16).astype(np.float32)
    words = tile_of_halves(columns, 3)
    assert words.shape == (3, 32, 320)
    for n in (0, 17, 47):
        pair = words[n // BLOCK_COLUMNS, 2 * (n % BLOCK_COLUMNS) :][:2]
        assert np.array_equal(np.ascontiguousarray(pair.T).view("<f2")[:, 0], columns[:, n])


def test_a_tile_of_integers_is_half_on_each_side() -> None:
    columns = RNG.standard_normal((320, 32)).astype(np.float32)
    columns[:, 5] = 0
    scales = scales_of(columns)
    assert scales[5] == 1
    west, east = (
        tile_of_integers(columns, scales, side).view(np.int8) for side in ("west", "east")
    )
    both = np.concatenate([west, east], axis=1).reshape(32, 320).T
    assert np.abs(both * scales - columns).max() <= scales.max() / 2 * (1 + 1e-5)
    assert np.abs(both).max() == 127
