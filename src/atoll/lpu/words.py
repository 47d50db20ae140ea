"""Numbers as words of memory, uint8 of shape (words, slices, lanes): vectors and tiles of weights.

Weights of int8 are rounded column by column, each with a scale of its own: the largest of a
column becomes 127.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from atoll.lpu.compiler.memory import BLOCK_COLUMNS
from atoll.lpu.program import Number, Side

Values = NDArray[np.float32]
Words = NDArray[np.uint8]


def some(rows: Values, first: int, number: int) -> Values:
    """Rows of a matrix, zeros beyond its end."""
    found = np.zeros((number, rows.shape[1]), np.float32)
    part = rows[first : first + number]
    found[: len(part)] = part
    return found


def wide(rows: Values, lanes: int) -> Values:
    """Rows up to a whole number of vectors, zeros for those that are missing."""
    return some(rows, 0, -(-len(rows) // lanes) * lanes)


def halves(rows: Values) -> Words:
    """Vectors of f16, shape (words, 2, lanes) bytes."""
    found = rows.astype("<f2")
    return np.ascontiguousarray(found[..., None].view(np.uint8).transpose(0, 2, 1))


def singles(rows: Values) -> Words:
    """Vectors of f32, shape (words, 4, lanes) bytes."""
    found = np.ascontiguousarray(rows.astype("<f4"))
    return np.ascontiguousarray(found[..., None].view(np.uint8).transpose(0, 2, 1))


def value_words(values: Values, number: Number, lanes: int) -> Words:
    """A vector of any width, f16 or f32, in as many words as it fills."""
    rows = np.zeros(-(-len(values) // lanes) * lanes, np.float32)
    rows[: len(values)] = values
    return (halves if number == "f16" else singles)(rows.reshape(-1, lanes))


def value_of(words: Words, number: Number, width: int) -> Values:
    """The first `width` numbers of words of f16 or f32."""
    flat = np.ascontiguousarray(words.transpose(0, 2, 1))
    found = flat.view("<f2" if number == "f16" else "<f4").reshape(-1)
    return found[:width].astype(np.float32)


def scales_of(matrix: Values) -> Values:
    """What whole numbers of each column, shape (rows, columns), are multiplied by."""
    greatest = np.abs(matrix).max(axis=0)
    return np.where(greatest > 0, greatest / 127.0, 1.0).astype(np.float32)


def tile_of_halves(columns: Values, words: int) -> Words:
    """Columns of a tile, shape (lanes, columns), as words of 16 columns beside each other."""
    lanes = columns.shape[0]
    found = np.ascontiguousarray(columns.T.astype("<f2"))
    by_byte = found[..., None].view(np.uint8).transpose(0, 2, 1)
    return np.ascontiguousarray(by_byte.reshape(words, 2 * BLOCK_COLUMNS, lanes))


def tile_of_integers(columns: Values, scales: Values, side: Side) -> Words:
    """A side's part of a tile of int8, of each 16 columns the first or the last 8."""
    numbers = np.rint(columns / scales).astype(np.int8)
    by_word = numbers.T.reshape(-1, BLOCK_COLUMNS, columns.shape[0])
    half = BLOCK_COLUMNS // 2
    mine = by_word[:, :half] if side == "west" else by_word[:, half:]
    return np.ascontiguousarray(mine).view(np.uint8)
