"""Rows and tiles as words of memory."""

from __future__ import annotations

import numpy as np

from atoll.lpu.compiler.rows.words import row_words, rows_of, tile_words


def test_rows_come_back() -> None:
    rows = np.random.default_rng(0).normal(size=(5, 300)).astype(np.float16)
    words = row_words(rows, "f16", 320)
    assert words.shape == (5, 2, 320)
    back = rows_of(words, "f16")
    assert (back[:, :300] == rows).all()
    assert (back[:, 300:] == 0).all()


def test_a_column_of_a_tile_is_a_word() -> None:
    tile = np.random.default_rng(0).integers(-128, 128, (320, 100)).astype(np.int8)
    words = tile_words(tile, "int8", 320)
    assert words.shape == (13, 8, 320)
    assert (words[3, 5].view(np.int8) == tile[:, 3 * 8 + 5]).all()
