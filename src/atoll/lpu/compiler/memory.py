"""Where on a chip things lie: weights, caches, tables, and what is computed.

All slices of a side but the outer four hold weights and caches, from address 0 upward, layer
by layer: addresses within a layer are local. A tile of weights lies across as many slices as
the streams that bring it, so that it comes at once:

- of f16, 32 streams straight from the slices of a side to its matrix unit;
- of int8 that the vector unit widens, 16 streams, 8 from each side.

The outer four slices of both sides hold tables and what is computed; so do the last words of
the others. Those addresses are the same for all layers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from atoll.domain.errors import BadRequest
from atoll.lpu.compiler.chain import Tensor
from atoll.lpu.program import NUMBER_BYTES, SIDES, Number, Side
from atoll.lpu.timing import Timing

Stored = Literal["f16", "int8"]
"""How weights lie in memory; products are of f16 either way."""

WORK = 4
"""Slices at the outer end of each side for tables and what is computed."""
SCRATCH = (8, 32)
"""Slices of each side, the second not included, of which scratch takes some; those before them
hold tables that all layers share, those after them tables of a layer: so that what an instruction
reads together lies apart.
"""
BLOCK_COLUMNS = 16
"""Columns of a tile that come in a cycle."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A tile of weights in memory: its words are at `address` of slices on one or both sides.

    `columns` of it are there, in groups of 16 that lie one word behind the other.
    """

    slices: tuple[tuple[Side, tuple[int, ...]], ...]
    address: int
    columns: int
    local: bool

    @property
    def words(self) -> int:
        """Words of each slice."""
        return -(-self.columns // BLOCK_COLUMNS)


@dataclass(frozen=True, slots=True)
class Piece:
    """Words that are to be laid into memory: part `part` of `what`, a tile or a table."""

    what: str
    part: tuple[int, ...]
    side: Side
    slices: tuple[int, ...]
    address: int
    words: int
    local: bool


@dataclass(slots=True)
class Memory:
    """Addresses given so far: local ones upward, the others downward from the last word."""

    timing: Timing
    stored: Stored
    pieces: list[Piece] = field(default_factory=list)
    _up: dict[tuple[Side, int], int] = field(default_factory=lambda: defaultdict(int))
    _down: dict[tuple[Side, int], int] = field(default_factory=lambda: defaultdict(int))
    _turn: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    _most: int = 0

    @property
    def local_words(self) -> int:
        """Words of a slice that a layer takes."""
        return max(self._up.values(), default=0)

    @property
    def shared_words(self) -> int:
        """Words of a slice with weights that are taken whatever the layer."""
        self._keep()
        return self._most

    def tile(
        self,
        what: str,
        part: tuple[int, ...],
        columns: int,
        *,
        side: Side,
        stored: Stored | None = None,
        local: bool = True,
    ) -> Tile:
        """Room for a tile of weights; of f16 on a side, of int8 on both."""
        stored = stored or self.stored
        inner = self.timing.slices - WORK
        if stored == "f16":
            wide = tuple(range(2 * BLOCK_COLUMNS))
            slices: tuple[tuple[Side, tuple[int, ...]], ...] = ((side, wide),)
        else:
            half = BLOCK_COLUMNS // 2
            gang = self._turn["gang"]
            self._turn["gang"] = (gang + 1) % (inner // half)
            wide = tuple(range(gang * half, (gang + 1) * half))
            slices = tuple((s, wide) for s in SIDES)
        words = -(-columns // BLOCK_COLUMNS)
        address = self._take(slices, words, local=local)
        found = Tile(slices, address, columns, local)
        for s, of in slices:
            self.pieces.append(Piece(what, part, s, of, address, words, local))
        return found

    def table(
        self,
        what: str,
        number: Number,
        count: int,
        *,
        side: Side,
        first: int,
        part: tuple[int, ...] = (),
        local: bool = False,
    ) -> Tensor:
        """Vectors that lie in memory before, in slices of a side from `first` on."""
        slices = tuple(range(first, first + NUMBER_BYTES[number]))
        address = self._take(((side, slices),), count, local=local)
        self.pieces.append(Piece(what, part, side, slices, address, count, local))
        return Tensor(number, side, slices, address, count, local=local)

    def work(self, number: Number, count: int) -> Tensor:
        """Room for vectors that are computed, in the outer slices; sides and slices by turns."""
        width = NUMBER_BYTES[number]
        turn = self._turn[number]
        self._turn[number] += 1
        first = self.timing.slices - WORK + turn // 2 % (WORK // width) * width
        return self._room(number, count, SIDES[turn % 2], first)

    def scratch(
        self,
        number: Number,
        count: int,
        side: Side | None = None,
        *,
        apart: Iterable[Tensor] = (),
    ) -> Tensor:
        """Room for vectors that are computed, in inner slices: in others each time, so that many
        can be read in one cycle; and in none that one of some tensors has.
        """
        sides = [side] if side else [SIDES[(self._turn["side"] + n) % 2] for n in range(2)]
        self._turn["side"] += side is None
        width = NUMBER_BYTES[number]
        first, end = SCRATCH
        others = {(tensor.side, s) for tensor in apart for s in tensor.slices}
        for on in sides:
            for _ in range(0, end - first, width):
                turn = -(-self._turn[on] // width) * width
                self._turn[on] = turn + width
                start = first + turn % (end - first)
                if others.isdisjoint((on, s) for s in range(start, start + width)):
                    return self._room(number, count, on, start)
        raise AssertionError("tensors that are wanted at once lie in all slices")

    def _room(self, number: Number, count: int, side: Side, first: int) -> Tensor:
        slices = tuple(range(first, first + NUMBER_BYTES[number]))
        return Tensor(number, side, slices, self._take(((side, slices),), count), count)

    def mark(self) -> dict[tuple[Side, int], int]:
        """What is given so far of addresses that all layers share."""
        return dict(self._down)

    def begin(self, mark: dict[tuple[Side, int], int]) -> None:
        """Give local addresses from 0 on, and the others from a mark on, for another routine.

        What the most of all routines took stays taken (`shared_words`).
        """
        self._keep()
        self._up.clear()
        self._down = defaultdict(int, mark)
        self._turn.clear()

    def _keep(self) -> None:
        inner = [n for (_, s), n in self._down.items() if s < self.timing.slices - WORK]
        self._most = max([self._most, *inner])

    def _take(
        self,
        slices: tuple[tuple[Side, tuple[int, ...]], ...],
        words: int,
        *,
        local: bool = False,
    ) -> int:
        """The address of words that are free in all of the slices."""
        keys = [(side, s) for side, of in slices for s in of]
        grown = self._up if local else self._down
        before = max(grown[key] for key in keys)
        for key in keys:
            grown[key] = before + words
        if max(self._up[key] + self._down[key] for key in keys) > self.timing.words:
            raise BadRequest(
                f"a layer does not fit into a chip's memory of {self.timing.words} words a slice",
                hint="more chips, or weights of int8",
            )
        return before if local else self.timing.words - before - words
