"""What lies in memory before a compiled graph runs: its weights and tables as bytes of words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from atoll.domain.errors import BadRequest
from atoll.lpu.compiler.graphs.graph import Node
from atoll.lpu.compiler.graphs.operators import CompiledGraph
from atoll.lpu.compiler.memory import BLOCK_COLUMNS, Piece
from atoll.lpu.laying import VERY_LOW, Rotation, rotations
from atoll.lpu.words import (
    Values,
    Words,
    halves,
    scales_of,
    singles,
    tile_of_halves,
    tile_of_integers,
    value_words,
    wide,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Of one node: what its operator needs of them.

    Attributes:
        matrix: Of a product, shape (values out, values in); of a gated one the gates'.
        up: Of a gated one: what is gated, of the same shape.
        norm: Of a norm, shape (values,).
        rotation: Of a rotation.
    """

    matrix: Values | None = None
    up: Values | None = None
    norm: Values | None = None
    rotation: Rotation | None = None


class GraphLaying:
    """Lays a compiled graph's pieces out.

    Args:
        compiled: The graph.
        weights: Of nodes, by name.
        lanes: Of the chip.
    """

    def __init__(
        self, compiled: CompiledGraph, weights: Mapping[str, Weights], *, lanes: int = 320
    ) -> None:
        self.compiled = compiled
        self.weights = weights
        self.lanes = lanes
        self._matrices: dict[str, Values] = {}
        self._nodes = {node.name: node for node in compiled.nodes}

    def block(self, tensor: str) -> Words:
        """Words of a block of the graph's program."""
        return self.words(self.compiled.pieces[int(tensor)])

    def words(self, piece: Piece) -> Words:
        """Bytes of a piece, shape (words, slices, lanes).

        Raises:
            BadRequest: A node's weights are missing, or of another shape.
        """
        what, _, name = piece.what.partition(" ")
        if what == "ones":
            columns = np.ones((self.lanes, piece.words * BLOCK_COLUMNS), np.float32)
            return tile_of_halves(columns, piece.words)
        if what in ("lanes", "low"):
            values = np.ones(piece.part[0], np.float32)
            if what == "lanes":
                return value_words(values, "f16", self.lanes)
            beyond = np.full(piece.words * self.lanes, VERY_LOW, np.float32)
            beyond[: len(values)] = 0
            return value_words(beyond, "f16", self.lanes)
        if name == "lane":
            row = np.arange(self.lanes) < piece.part[0]
            return halves((row if what == "before" else ~row)[None].astype(np.float32))
        if what == "norm":
            return value_words(self._norm(self._nodes[name]), "f16", self.lanes)
        if what in ("cosine", "after", "before"):
            return halves(self._rotations(self._nodes[name])[what])
        assert what == "matrix", piece.what
        return self._tile(piece, *name.split(" "))

    def _norm(self, node: Node) -> Values:
        found = self.weights.get(node.origin, Weights()).norm
        width = self.compiled.widths[node.name]
        return _shaped(node, found, (width,))

    def _rotations(self, node: Node) -> dict[str, Values]:
        given = self.weights.get(node.origin)
        if given is None or given.rotation is None:
            raise BadRequest(f"{node.origin}: it has no rotation", hint="its dimensions and base")
        return rotations(
            given.rotation, node.head_dim, node.positions, half=node.half, lanes=self.lanes
        )

    def _tile(self, piece: Piece, name: str, scales: str = "") -> Words:
        matrix = self._matrix(self._nodes[name])
        if scales:
            found = scales_of(matrix).reshape(-1, self.lanes)
            return singles(found[piece.part[0] :: 2])
        k, n = piece.part
        columns = matrix[:, n * self.lanes :][:, : piece.words * BLOCK_COLUMNS]
        rows = columns[k * self.lanes : (k + 1) * self.lanes]
        if self._nodes[name].stored == "f16":
            return tile_of_halves(rows, piece.words)
        return tile_of_integers(rows, scales_of(columns), piece.side)

    def _matrix(self, node: Node) -> Values:
        """A node's matrix, shape (depth x lanes, width x lanes), zeros between."""
        if node.name not in self._matrices:
            given = self.weights.get(node.origin, Weights())
            shape = (node.width, self.compiled.widths[node.inputs[0]])
            found = wide(_shaped(node, given.matrix, shape), self.lanes)
            if node.op == "gated":
                up = wide(_shaped(node, given.up, shape), self.lanes)
                both = [m.reshape(-1, self.lanes, shape[1]) for m in (found, up)]
                found = np.stack(both, 1).reshape(-1, shape[1])
            self._matrices[node.name] = wide(np.ascontiguousarray(found.T), self.lanes)
        return self._matrices[node.name]


def _shaped(node: Node, found: Values | None, shape: tuple[int, ...]) -> Values:
    if found is None or found.shape != shape:
        had = "missing" if found is None else f"of shape {found.shape}"
        raise BadRequest(f"{node.origin}: its weights are {had}", hint=f"an array of shape {shape}")
    return found
