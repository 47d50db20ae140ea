"""Rows and weights of a product over chips as words of memory, and its results back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atoll.domain.errors import BadRequest
from atoll.lpu.compiler.rows.words import STORED, Words, row_words, rows_of, tile_words
from atoll.lpu.compiler.spread.product import Product
from atoll.lpu.program import Side
from atoll.lpu.timing import Timing

Array = NDArray[Any]
Peek = Callable[[int, Side, Sequence[int], int, int], Words]
"""Words of memory: of a chip, side, slices, from an address on, so many; (words, slices, lanes)."""


def product_words(
    made: Product, timing: Timing, rows: Array, weights: Array
) -> Callable[[str], Words]:
    """What lies in memory before, by the names that blocks of the program have.

    Args:
        made: The product.
        timing: Of the chips.
        rows: Shape (rows, depth).
        weights: Shape (depth, width).

    Raises:
        BadRequest: They are of another shape.
    """
    if (*rows.shape, weights.shape[-1]) != made.shape or len(weights) != made.shape[1]:
        raise BadRequest(f"rows {rows.shape} and weights {weights.shape} for {made.shape}")
    lanes = timing.lanes
    columns = timing.columns

    def words(name: str) -> Words:
        what, *numbers = name.split()
        if what == "rows":
            b, k = map(int, numbers)
            part = rows[made.blocks[b].start : made.blocks[b].stop, k * lanes : (k + 1) * lanes]
            return row_words(part, made.number, lanes)
        k, n = map(int, numbers)
        tile = weights[k * lanes : (k + 1) * lanes, n * columns : (n + 1) * columns]
        return tile_words(tile, made.number, lanes)

    return words


def product_result(made: Product, peek: Peek) -> Array:
    """The product, shape (rows, width), from where its parts lie when the program has run."""
    number = made.results[0].tensor.number
    found = np.zeros((made.shape[0], made.shape[2]), STORED[number])
    for part in made.results:
        t, rows, columns = part.tensor, part.rows, part.columns
        words = peek(part.chip, t.side, t.slices, t.address + part.first, rows.count)
        values = rows_of(words, t.number)[:, : columns.count]
        found[
            rows.first : rows.first + rows.count, columns.first : columns.first + columns.count
        ] = values
    return found
