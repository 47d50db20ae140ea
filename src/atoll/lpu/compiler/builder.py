"""Products of weights in memory with vectors, and passes through the vector unit, on a board.

A builder fills one routine of one chip, or of several that all do the same: chip c then sends
to chip c + j (mod chips) what it gets from c - j, in the same cycles, so that one board serves
for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from atoll.lpu.compiler.board import Board
from atoll.lpu.compiler.chain import Chain, Tensor
from atoll.lpu.compiler.memory import BLOCK_COLUMNS, Memory, Stored, Tile
from atoll.lpu.program import (
    SIDES,
    Alu,
    Flow,
    Instruction,
    Number,
    Operand,
    Receive,
    Routine,
    Send,
    Side,
)
from atoll.lpu.timing import Timing

Finish = Callable[[Chain, dict[Side, Operand], int], None]
"""Adds to a chain what becomes of sums (f32, of each side the same phase): chain, sums, phase."""


@dataclass(slots=True)
class Plane:
    """The pair of planes of a side: from when its buffer is free, and loaded; until when used."""

    free: int = 0
    loaded: int = 0
    used: int = 0


@dataclass(frozen=True, slots=True)
class Matrix:
    """Tiles of a matrix, `tiles[k][n]` being rows 320 k and columns 320 n onward.

    `scales`: what sums are multiplied by, f32, of even and of odd blocks of columns; or nothing.
    """

    tiles: tuple[tuple[Tile, ...], ...]
    scales: tuple[Tensor, ...] = ()

    @property
    def depth(self) -> int:
        """Tiles that are summed."""
        return len(self.tiles)

    @property
    def width(self) -> int:
        """Vectors that come out."""
        return len(self.tiles[0])


def make_matrix(
    memory: Memory, what: str, columns: Sequence[int], depth: int, stored: Stored
) -> Matrix:
    """Room for a matrix of `depth` tiles of rows; blocks of so many columns, by turns on both
    sides.
    """
    tiles = tuple(
        tuple(
            memory.tile(what, (k, n), columns[n], side=SIDES[n % 2], stored=stored)
            for n in range(len(columns))
        )
        for k in range(depth)
    )
    if stored == "f16":
        return Matrix(tiles)
    # Blocks of both sides come in one cycle: their scales must not lie in the same slices.
    scales = tuple(
        memory.table(
            f"{what} scales", "f32", count, side="east", first=32 + 4 * n, part=(n,), local=True
        )
        for n, count in enumerate((-(-len(columns) // 2), len(columns) // 2))
        if count
    )
    return Matrix(tiles, scales)


class Builder:
    """One routine in the making."""

    def __init__(self, timing: Timing, memory: Memory, chips: int = 1) -> None:
        self.timing = timing
        self.memory = memory
        self.chips = chips
        self.board = Board()
        self.planes: dict[Side, Plane] = {side: Plane() for side in SIDES}
        self.instructions: list[Instruction] = []
        self.marks: list[tuple[str, int]] = []

    def mark(self, what: str, tensor: Tensor) -> None:
        """Note since when a result is there: what a token waits for, one after the other."""
        self.marks.append((what, max(tensor.there)))

    def chain(self) -> Chain:
        """A chain to be placed here."""
        return Chain(self.timing)

    def place(self, chain: Chain, ready: int = 0) -> int:
        """Put a chain onto the board; returns the phase of its beginning."""
        begin = chain.place(self.board, ready)
        self.instructions += chain.instructions
        return begin

    def load(
        self,
        tile: Tile,
        side: Side,
        *,
        columns: tuple[int, int] | None = None,
        since: int = 0,
    ) -> None:
        """Weights of a tile, or of some columns (first and number) of it, into a side's buffer.

        First and number are multiples of the columns that come in a cycle, but the last group's.
        Nothing is read before cycle `since`.
        """
        first, number = columns or (0, tile.columns)
        skip, count = first // BLOCK_COLUMNS, -(-number // BLOCK_COLUMNS)
        chain = self.chain()
        flows: list[Flow] = []
        widened = len(tile.slices) > 1
        for s, slices in tile.slices:
            flow = Flow(s, "in" if widened else "out", 0, len(slices))
            there = [since] * tile.words
            source = Tensor("int8", s, slices, tile.address, tile.words, there, local=tile.local)
            chain.read(source, first=skip, count=count, way=flow.way, flow=flow)
            flows.append(flow)
        into = Flow(side, "out", 0, 2 * BLOCK_COLUMNS)
        at = 0
        if widened:
            weights = [Operand(f.part(i, 1), "int8") for f in flows for i in range(f.width)]
            steps = [Alu("f16", (i,)) for i in range(len(weights))]
            wide: list[tuple[int, Number, Flow]] = [
                (len(weights) + i, "f16", into.part(2 * i, 2)) for i in range(len(weights))
            ]
            at = chain.vector(weights, steps, wide, at=0, count=count)[0]
        chain.load(into, at=at, plane=0, number="f16", count=count, column=first)
        plane = self.planes[side]
        begin = self.place(chain, max(plane.free - at, 0))
        plane.loaded = max(plane.loaded, begin + at + count - 1)

    def multiply_ready(self, side: Side) -> int:
        """The phase from which what was loaded on a side may be installed."""
        plane = self.planes[side]
        return max(plane.loaded + self.timing.assumed.install_cycles, plane.used)

    def used(self, side: Side, at: int, rows: int = 1) -> None:
        """Note that a product of so many vectors begins with phase `at`, with new weights."""
        plane = self.planes[side]
        plane.free = at + 1
        plane.used = at + rows * self.timing.row_cycles("f16")

    def product(self, x: Tensor, matrix: Matrix, finish: Finish, *, first: int = 0) -> None:
        """One vector times a matrix: blocks of columns 2 i and 2 i + 1 on west and east.

        Args:
            x: f16, shape (matrix.depth, 320) from vector `first` on.
            matrix: Its weights.
            finish: What becomes of the sums of a pair of blocks, called in their order.
        """
        for pair in range(0, matrix.width, 2):
            sides = SIDES[: min(2, matrix.width - pair)]
            for k in range(matrix.depth):
                for i, side in enumerate(sides):
                    self.load(matrix.tiles[k][pair + i], side)
                    if k < matrix.depth - 1:
                        self._multiply(x, first + k, (side,), clear=k == 0)
            last = matrix.depth - 1
            self._multiply(x, first + last, sides, clear=last == 0, finish=finish)

    def _multiply(
        self,
        x: Tensor,
        k: int,
        sides: Sequence[Side],
        *,
        clear: bool,
        finish: Finish | None = None,
    ) -> None:
        chain = self.chain()
        vector = chain.read(x, first=k)
        flows = [chain.streams(side, "out", 2) for side in sides]
        chain.vector([vector], [], [(0, "f16", flow) for flow in flows], at=0)
        sums: dict[Side, Operand] = {}
        for side, flow in zip(sides, flows, strict=True):
            result = chain.multiply(flow, at=0, emit=finish is not None, clear=clear)
            sums[side] = Operand(result, "f32")
        if finish:
            finish(chain, sums, self.timing.multiplied(0))
        at = self.place(chain, max(self.multiply_ready(side) for side in sides))
        for side in sides:
            self.used(side, at)

    def routine(self, name: str) -> Routine:
        """What was built, for all chips; its cycles hold everything that the chips do in it."""
        late = max(burst.end for burst in self.instructions) + self.timing.edge
        late += self.timing.link_cycles + self.timing.assumed.alu_cycles * self.timing.alus
        return Routine(name, tuple(tuple(self._of(chip)) for chip in range(self.chips)), late)

    def _of(self, chip: int) -> list[Instruction]:
        found: list[Instruction] = []
        for instruction in sorted(self.instructions, key=lambda burst: burst.at):
            if isinstance(instruction, Send):
                found.append(replace(instruction, to=(chip + instruction.to) % self.chips))
            elif isinstance(instruction, Receive):
                source = (chip - instruction.source) % self.chips
                found.append(replace(instruction, source=source))
            else:
                found.append(instruction)
        return found
