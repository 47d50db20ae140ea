"""Rows and tiles of weights as words of memory, uint8 of shape (words, slices, 320), and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from atoll.lpu.compiler.rows.room import LOAD_STREAMS
from atoll.lpu.program import NUMBER_BYTES, Number

Array = NDArray[Any]
Words = NDArray[np.uint8]

STORED: dict[Number, str] = {"int8": "<i1", "int32": "<i4", "f16": "<f2", "f32": "<f4"}


def row_words(rows: Array, number: Number, lanes: int) -> Words:
    """Rows of shape (rows, at most `lanes`); the other lanes are zeros."""
    wide = np.zeros((len(rows), lanes), STORED[number])
    wide[:, : rows.shape[1]] = rows
    flat = wide.view(np.uint8).reshape(len(rows), lanes, NUMBER_BYTES[number])
    return np.ascontiguousarray(flat.transpose(0, 2, 1))


def rows_of(words: Words, number: Number) -> Array:
    """Numbers of shape (rows, lanes)."""
    flat = np.ascontiguousarray(words.transpose(0, 2, 1))
    return flat.view(STORED[number])[..., 0]


def tile_words(tile: Array, number: Number, lanes: int) -> Words:
    """A tile of shape (depth, columns), at most `lanes` deep, as its slices bring it."""
    width = LOAD_STREAMS // NUMBER_BYTES[number]
    columns = row_words(tile.T, number, lanes)
    whole = np.zeros((-(-len(columns) // width) * width, *columns.shape[1:]), np.uint8)
    whole[: len(columns)] = columns
    return whole.reshape(-1, LOAD_STREAMS, lanes)
