"""What lies in memory before an encoder's layers run, as words: of weights, vectors, tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from atoll.lpu.compiler.encoder.layer import Scales, key_factor
from atoll.lpu.compiler.encoder.shape import Shape
from atoll.lpu.compiler.rows.dense import Epilogue
from atoll.lpu.compiler.rows.room import LOAD_STREAMS
from atoll.lpu.compiler.rows.words import Array, Words, row_words, tile_words
from atoll.lpu.program import NUMBER_BYTES

NORMS = ("attention norm", "feed-forward norm")


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer's parameters.

    Args:
        shape: Of the layer.
        scales: Of its int8.
        weights: int8, rows times these: query, key, value, output of shape (hidden, hidden),
            inner (hidden, inner), outer (inner, hidden). Columns of a head follow each other.
        vectors: Of true size: biases by the names of weights (of output with that of value's
            times output in it; none of key and value), and of each norm `gain` and `offset`.
    """

    shape: Shape
    scales: Scales
    weights: Mapping[str, Array]
    vectors: Mapping[str, Array]

    def words(self, what: str, part: tuple[int, ...], count: int) -> Words:
        """So many words of a piece that the compiler gave room to, shape (count, slices, 320)."""
        a, b = (*part, 0, 0)[:2]
        first, _, second = what.partition(" ")
        if what in ("mask", "mean", "identity", "ones"):
            return self._table(what, a, count)
        if second:
            return self._vector(what, a)
        return self._value(a, b) if first == "value" else self._tile(first, a, b)

    @property
    def _width(self) -> int:
        return self.shape.group * self.shape.head

    def _table(self, what: str, part: int, count: int) -> Words:
        shape, lanes = self.shape, self.shape.timing.lanes
        if what == "identity":
            return row_words(np.eye(shape.block), "int8", lanes)
        if what == "mean":
            columns = LOAD_STREAMS // NUMBER_BYTES["f16"]
            return tile_words(np.full((self._width, columns), 1 / shape.hidden), "f16", lanes)
        if what == "mask":
            mask = np.zeros((1, lanes))
            mask[0, cut(part, shape.head)] = key_factor(self.scales)
            return row_words(mask, "f16", lanes)
        rows = np.zeros((count, shape.block))
        rows[:: shape.head + 1] = 1
        return row_words(rows, "f16", lanes)

    def _vector(self, what: str, n: int) -> Words:
        lanes = self.shape.timing.lanes
        factor, each = 1.0, self._width
        if what == "query bias":
            factor = 1 / self.scales.query
        elif what == "inner bias":
            factor, each = Epilogue("int8", gelu=True).bias_factor, lanes
        found = self.vectors[what.removesuffix(" bias")]
        return row_words(found[None, cut(n, each)] * factor, "f16", lanes)

    def _value(self, k: int, side: int) -> Words:
        """Rows of the transposed weights, of the heads of a side."""
        heads = range(side, self.shape.heads, 2)
        tile = self.weights["value"][cut(k, self._width)]
        columns = [tile[:, cut(h, self.shape.head)] for h in heads]
        return row_words(np.concatenate(columns, axis=1).T, "int8", self.shape.timing.lanes)

    def _tile(self, what: str, k: int, n: int) -> Words:
        lanes, width = self.shape.timing.lanes, self._width
        rows = cut(k, lanes if what == "outer" else width)
        columns = cut(n, lanes if what == "inner" else width)
        tile = self.weights[what][rows, columns]
        if what == "output":
            # Lane g n + i of attention's outputs is number n of head i.
            order = np.arange(width).reshape(self.shape.group, self.shape.head)
            tile = tile[order.T.ravel()]
        return tile_words(tile, "int8", lanes)


def cut(n: int, each: int) -> slice:
    """The n-th part of so many."""
    return slice(n * each, (n + 1) * each)
