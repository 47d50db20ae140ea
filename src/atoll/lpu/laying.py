"""What lies in memory before a program runs: weights and tables as bytes of words.

Weights of int8 are rounded column by column, each with a scale of its own: the largest of a
column becomes 127. Numbers of queries carry the factor 1 / sqrt(head size) of the scores.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from atoll.lpu.compiler.decoder.decode import Compiled
from atoll.lpu.compiler.decoder.sums import order
from atoll.lpu.compiler.memory import BLOCK_COLUMNS, Piece
from atoll.lpu.words import (
    Values,
    Words,
    halves,
    scales_of,
    singles,
    some,
    tile_of_halves,
    tile_of_integers,
    wide,
)

VERY_LOW = -60000.0
"""Added to scores of positions that are not there: a half can hold it, and no exponential is
left of it.
"""


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """A layer's matrices, shape (values out, values in), and the weights of its norms."""

    attention_norm: Values
    query: Values
    key: Values
    value: Values
    output: Values
    feed_forward_norm: Values
    gate: Values
    up: Values
    down: Values


@dataclass(frozen=True, slots=True)
class HeadWeights:
    """The last norm and the head, shape (vocabulary, hidden)."""

    norm: Values
    head: Values


@dataclass(frozen=True, slots=True)
class Rotation:
    """Frequencies of a rotation: base^(-2 i / dims) for pair i of the first `dims` of a head."""

    dims: int
    base: float


class Laying:
    """Lays a compiled decoder's pieces out, for one layer or head of one chip of the group.

    Args:
        compiled: Its routines.
        rotation: Of queries and keys.
        layer: Weights of a layer by its number.
        head: Weights of the head.
    """

    def __init__(
        self,
        compiled: Compiled,
        rotation: Rotation,
        layer: Callable[[int], LayerWeights],
        head: Callable[[], HeadWeights],
        *,
        lanes: int = 320,
    ) -> None:
        self.compiled = compiled
        self.parts = compiled.split
        self.rotation = rotation
        self.lanes = lanes
        self._layer = layer
        self._head = head
        self._last: tuple[tuple[str, int, int], Values] | None = None

    def words(self, piece: Piece, routine: str, layer: int, chip: int) -> Words:
        """Bytes of a piece, shape (words, slices, lanes).

        Args:
            piece: What of.
            routine: Whose it is; "" for what all share.
            layer: Its layer, if it is one's.
            chip: Which of the group.
        """
        shape = (piece.words, len(piece.slices), self.lanes)
        if piece.what in ("keys", "values", "spare"):
            return np.zeros(shape, np.uint8)
        if not routine:
            return self._shared(piece)
        if piece.what == "norm":
            return halves(self._norm(routine, layer, chip))
        name, _, scales = piece.what.partition(" ")
        matrix = self._matrix(name, routine, layer, chip)
        if scales:
            return self._scales(matrix, piece)
        return self._tile(matrix, piece)

    def hidden(self, values: Values, chip: int) -> Words:
        """A hidden vector as a chip keeps it, to be put at `compiled.hidden`."""
        return singles(self._placed(values, chip))

    def logits(self, words: Words) -> Values:
        """A chip's part of the logits, from the words at `compiled.logits`."""
        found = np.ascontiguousarray(words.transpose(0, 2, 1)).view("<f4")[..., 0]
        return found.reshape(-1)[: self.parts.vocab].astype(np.float32)

    # Tables

    def _shared(self, piece: Piece) -> Words:
        if piece.what == "ones":
            columns = np.ones((self.lanes, piece.words * BLOCK_COLUMNS), np.float32)
            return tile_of_halves(columns, piece.words)
        if piece.what in ("cosine", "after", "before"):
            return halves(self._rotations[piece.what])
        if piece.what == "slot":
            dim = self.parts.shape.head_dim
            row = np.zeros((1, self.lanes), np.float32)
            row[0, piece.part[0] * dim : (piece.part[0] + 1) * dim] = 1
            return halves(row)
        if piece.what == "past":
            rows = np.triu(np.full((self.lanes, self.lanes), VERY_LOW, np.float32))
            return halves(np.vstack([rows, np.zeros((1, self.lanes), np.float32)]))
        one = np.eye(self.lanes, dtype=np.float32)
        if piece.what == "lane":
            return halves(one)
        assert piece.what == "diagonal", piece.what
        dims = range(piece.part[0])
        taken = [d for pair in range(BLOCK_COLUMNS) for d in dims[pair::BLOCK_COLUMNS]]
        return halves(one[taken])

    @cached_property
    def _rotations(self) -> dict[str, Values]:
        shape, context = self.parts.shape, self.parts.context
        half = self.parts.half
        return rotations(self.rotation, shape.head_dim, context, half=half, lanes=self.lanes)

    # Weights

    def _order(self, chip: int) -> list[int]:
        blocks = -(-self.parts.shape.hidden // self.lanes)
        return order(blocks, self.parts.chips, chip)

    def _placed(self, values: Values, chip: int) -> Values:
        """Values of the hidden vector along the last axis, in a chip's order of blocks."""
        blocks = -(-self.parts.shape.hidden // self.lanes)
        wide = np.zeros((*values.shape[:-1], blocks * self.lanes), np.float32)
        wide[..., : values.shape[-1]] = values
        wide = wide.reshape(*values.shape[:-1], blocks, self.lanes)
        return wide[..., self._order(chip), :]

    def _norm(self, routine: str, layer: int, chip: int) -> Values:
        if routine == "head":
            return self._placed(self._head().norm, chip)
        weights = self._layer(layer)
        norm = weights.attention_norm if routine == "attention" else weights.feed_forward_norm
        return self._placed(norm, chip)

    def _matrix(self, name: str, routine: str, layer: int, chip: int) -> Values:
        """A matrix as a chip has it, shape (depth x lanes, width x lanes), zeros between."""
        key = (f"{routine} {name}", layer, chip)
        if self._last is None or self._last[0] != key:
            self._last = (key, self._make(name, layer, chip))
        return self._last[1]

    def _make(self, name: str, layer: int, chip: int) -> Values:
        if name == "head":
            rows = some(self._head().head, chip * self.parts.vocab, self.parts.vocab)
            return self._columns(wide(rows, self.lanes), chip)
        weights = self._layer(layer)
        if name == "qkv":
            return self._columns(self._joined(weights, chip), chip)
        if name == "output":
            rows = self._by_heads(weights.output.T, chip, range(self._query_rows))
            return self._from_heads(rows, chip)
        first, number = chip * self.parts.ffn, self.parts.ffn
        if name == "inner":
            gate, up = (
                wide(some(matrix, first, number), self.lanes)
                for matrix in (weights.gate, weights.up)
            )
            both = np.stack([m.reshape(-1, self.lanes, m.shape[1]) for m in (gate, up)], 1)
            return self._columns(both.reshape(-1, gate.shape[1]), chip)
        assert name == "outer", name
        return self._from_heads(wide(some(weights.down.T, first, number), self.lanes), chip)

    def _columns(self, outs: Values, chip: int) -> Values:
        """Rows in the order of the hidden vector, columns as given: from (out, hidden)."""
        return self._placed(outs, chip).reshape(len(outs), -1).T

    def _from_heads(self, ins: Values, chip: int) -> Values:
        """Columns in the order of the hidden vector: from (in, hidden)."""
        return self._placed(ins, chip).reshape(len(ins), -1)

    @property
    def _query_rows(self) -> int:
        return self.parts.shape.heads // self.parts.shape.kv_heads

    def _joined(self, weights: LayerWeights, chip: int) -> Values:
        """Keys, values and queries of each lane group, rows being lanes of their vectors."""
        found = []
        each = self.parts.shape.kv_heads // self.parts.chips
        dim, hidden = self.parts.shape.head_dim, self.parts.shape.hidden
        kv = [
            m.reshape(-1, dim, hidden)[chip * each : (chip + 1) * each]
            for m in (weights.key, weights.value)
        ]
        query = weights.query.reshape(-1, self._query_rows, dim, hidden) * dim**-0.5
        query = query[chip * each : (chip + 1) * each]
        first = 0
        for heads in self.parts.heads:
            slots = slice(first, first + heads.slots)
            parts = [*(m[slots] for m in kv), *(query[slots, r] for r in range(heads.rows))]
            found += [wide(part.reshape(-1, hidden), self.lanes) for part in parts]
            first += heads.slots
        return np.concatenate(found)

    def _by_heads(self, ins: Values, chip: int, rows: range) -> Values:
        """Values of queries' heads, shape (heads x size, hidden), as lanes of their vectors."""
        each = self.parts.shape.kv_heads // self.parts.chips
        dim, hidden = self.parts.shape.head_dim, self.parts.shape.hidden
        heads = ins.reshape(-1, len(rows), dim, hidden)[chip * each : (chip + 1) * each]
        found, first = [], 0
        for group in self.parts.heads:
            some = heads[first : first + group.slots]
            found += [wide(some[:, r].reshape(-1, hidden), self.lanes) for r in rows]
            first += group.slots
        return np.concatenate(found)

    def _scales(self, matrix: Values, piece: Piece) -> Words:
        return singles(scales_of(matrix).reshape(-1, self.lanes)[piece.part[0] :: 2])

    def _tile(self, matrix: Values, piece: Piece) -> Words:
        k, n = piece.part
        rows = slice(k * self.lanes, (k + 1) * self.lanes)
        first = n * self.lanes
        part = matrix[rows, first : first + piece.words * BLOCK_COLUMNS]
        if self.compiled.stored == "f16":
            return tile_of_halves(part, piece.words)
        whole = matrix[:, first : first + piece.words * BLOCK_COLUMNS]
        return tile_of_integers(part, scales_of(whole), piece.side)


def rotations(
    rotation: Rotation, dim: int, positions: int, *, half: bool, lanes: int
) -> dict[str, Values]:
    """Cosines and sines of heads of `dim` beside each other, shape (positions, lanes): "cosine",
    and sines for the lanes "after" and "before"; `half` as a head's halves turn, or neighbours.
    """
    dims = rotation.dims
    pairs = dims // 2
    angle = np.arange(positions)[:, None] * (rotation.base ** (-2.0 * np.arange(pairs) / dims))
    cosine = np.ones((positions, dim))
    after, before = np.zeros_like(cosine), np.zeros_like(cosine)
    if half:
        first, second = slice(0, pairs), slice(pairs, dims)
    else:
        first, second = slice(0, dims, 2), slice(1, dims, 2)
    cosine[:, first] = cosine[:, second] = np.cos(angle)
    after[:, first] = -np.sin(angle)
    before[:, second] = np.sin(angle)
    found = {}
    for name, head in (("cosine", cosine), ("after", after), ("before", before)):
        across = np.zeros((positions, lanes), np.float32)
        heads = lanes // dim
        across[:, : heads * dim] = np.tile(head, heads)
        found[name] = across
    return found
