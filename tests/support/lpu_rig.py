"""One routine of a chip, or of a few alike, built by a test, run, and looked into."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from tests.support.lpu_small import timing_of

from atoll.lpu.check.programs import check
from atoll.lpu.compiler.builder import Builder, Matrix
from atoll.lpu.compiler.chain import Tensor
from atoll.lpu.compiler.decoder.norm import Ones
from atoll.lpu.compiler.memory import BLOCK_COLUMNS, Memory, Piece, Stored, Tile
from atoll.lpu.program import SIDES, Block, Number, Program, Side, Step
from atoll.lpu.simulator.simulator import Simulator

Values = NDArray[np.float64]
Words = NDArray[np.uint8]
TYPES: dict[Number, str] = {"f16": "<f2", "f32": "<f4", "int8": "|i1", "int32": "<i4"}
LANES = 320


def words_of(values: NDArray[np.generic], number: Number) -> Words:
    """Vectors as bytes, shape (vectors, bytes of a number, lanes)."""
    typed = np.ascontiguousarray(values.astype(TYPES[number]))
    return np.ascontiguousarray(typed[..., None].view(np.uint8).transpose(0, 2, 1))


class Rig:
    """Memory with known contents, and a builder of one routine over it."""

    def __init__(self, chips: int = 1, stored: Stored = "f16") -> None:
        self.timing = timing_of()
        self.memory = Memory(self.timing, stored)
        self.builder = Builder(self.timing, self.memory, chips)
        self.chips = chips
        self._data: list[tuple[int, Side, tuple[int, ...], int, Words]] = []
        self.simulator: Simulator | None = None

    def put(
        self,
        values: NDArray[np.floating],
        number: Number,
        *,
        side: Side = "west",
        first: int = 32,
        local: bool = False,
    ) -> Tensor:
        """Vectors in memory, shape (vectors, lanes), or (chips, vectors, lanes)."""
        each = values if values.ndim == 3 else np.stack([values] * self.chips)
        tensor = self.memory.table(
            "given", number, each.shape[1], side=side, first=first, local=local
        )
        for chip in range(self.chips):
            self._data.append(
                (chip, side, tensor.slices, tensor.address, words_of(each[chip], number))
            )
        return tensor

    def tile(self, values: NDArray[np.floating], *, side: Side, chip: int = 0) -> Tile:
        """A tile of f16 or int8, shape (lanes, columns)."""
        tile = self.memory.tile("given", (), values.shape[1], side=side)
        self.fill(tile, values, chip)
        return tile

    def fill(self, tile: Tile, values: NDArray[np.floating], chip: int) -> None:
        """What a tile holds on one chip."""
        columns = np.zeros((tile.words * BLOCK_COLUMNS, LANES))
        columns[: values.shape[1], : values.shape[0]] = values.T
        number: Number = "f16" if len(tile.slices) == 1 else "int8"
        by_byte = words_of(columns, number).reshape(tile.words, -1, LANES)
        width = by_byte.shape[1] // len(tile.slices)
        for n, (side, slices) in enumerate(tile.slices):
            part = by_byte[:, n * width : (n + 1) * width]
            self._data.append((chip, side, slices, tile.address, part))

    def matrix(self, values: NDArray[np.floating], scales: NDArray[np.floating] | None) -> Matrix:
        """A matrix, shape (rows, columns), or (chips, rows, columns), both any number."""
        each = values if values.ndim == 3 else np.stack([values] * self.chips)
        _, rows, columns = each.shape
        tiles = []
        for k in range(0, rows, LANES):
            row = []
            for n in range(0, columns, LANES):
                part = each[:, k : k + LANES, n : n + LANES]
                side = SIDES[n // LANES % 2]
                tile = self.memory.tile("given", (), part.shape[2], side=side)
                for chip in range(self.chips):
                    self.fill(tile, part[chip], chip)
                row.append(tile)
            tiles.append(tuple(row))
        kept: tuple[Tensor, ...] = ()
        if scales is not None:
            wide = np.zeros(-(-columns // LANES) * LANES)
            wide[:columns] = scales
            blocks = wide.reshape(-1, LANES)
            kept = tuple(
                self.put(blocks[n::2], "f32", side="east", first=32 + 4 * n)
                for n in range(min(2, len(blocks)))
            )
        return Matrix(tuple(tiles), kept)

    def ones(self) -> Ones:
        """Tiles of ones on both sides."""
        return Ones(*(self.tile(np.ones((LANES, LANES)), side=side) for side in SIDES))

    def zeros(self, pieces: list[Piece]) -> None:
        """Lay pieces out as zeros."""
        for p in pieces:
            for chip in range(self.chips):
                data = np.zeros((p.words, len(p.slices), LANES), np.uint8)
                self._data.append((chip, p.side, p.slices, p.address, data))

    def run(self, indices: Mapping[str, int] | None = None) -> Program:
        """Check the routine for conflicts, and run it."""
        blocks = tuple(
            Block(chip, side, slices, address, len(words), str(n))
            for n, (chip, side, slices, address, words) in enumerate(self._data)
        )
        routine = self.builder.routine("rig")
        step = Step(0, tuple(range(self.chips)), at=0)
        program = Program(self.chips, (routine,), (step,), blocks)
        assert not (found := check(program, self.timing)), "\n".join(map(str, found))
        self.simulator = Simulator(program, self.timing, lambda name: self._data[int(name)][4])
        self.simulator.run(indices or {})
        return program

    def get(self, tensor: Tensor, chip: int = 0) -> Values:
        """What a tensor holds after the run, shape (vectors, lanes)."""
        assert self.simulator is not None
        words = self.simulator.peek(chip, tensor.side, tensor.slices, tensor.address, tensor.count)
        typed = np.ascontiguousarray(words.transpose(0, 2, 1)).view(TYPES[tensor.number])
        return np.asarray(typed[..., 0], np.float64)


def vectors(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Values as vectors of 320 lanes, zeros at the end."""
    wide = np.zeros(-(-len(values) // LANES) * LANES, values.dtype)
    wide[: len(values)] = values
    return wide.reshape(-1, LANES)
