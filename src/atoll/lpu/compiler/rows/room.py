"""Where things lie on a chip that multiplies many rows: weights inside, rows at the outer end.

The 24 inner slices of a side are gangs of eight, from which the weights of a tile come in 40
cycles (int8; of f16 in 80) on eight streams, so that both planes of a side can be loaded at once
and sixteen outward streams stay free for rows and results. Four more hold tables: vectors of
f16 that are read again for every row, as biases. Rows lie in the outer sixteen, int8 in one
slice, f16 in two, f32 in four, by turns or where it is said, so that rows that are read or
written together are in different slices.

What lies there before and belongs to a layer has local addresses, from 0 upward; tables that
all layers share and what is computed have others, from the last word downward.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from atoll.domain.errors import BadRequest
from atoll.lpu.compiler.chain import LATER, Tensor
from atoll.lpu.compiler.memory import Piece
from atoll.lpu.program import NUMBER_BYTES, SIDES, Number, Side
from atoll.lpu.timing import Timing

LOAD_STREAMS = 8
"""Streams that bring weights to a plane."""
OUTER = 16
"""Slices of a side for rows."""
TABLES = 4
"""Slices of a side for tables."""


@dataclass(frozen=True, slots=True)
class Weights:
    """What a plane is loaded with: word n of the tensors, which lie on one side, brings as many
    columns as there are numbers beside each other. With `step` 0 it is always the same word.
    """

    tensors: tuple[Tensor, ...]
    number: Number
    first: int
    words: int
    step: int = 1

    @property
    def streams(self) -> int:
        """Streams on which it comes."""
        return sum(len(tensor.slices) for tensor in self.tensors)


@dataclass(slots=True)
class Room:
    """Words given so far of each slice; `pieces` is what has to be laid there before."""

    timing: Timing
    layers: int = 1
    pieces: list[Piece] = field(default_factory=list)
    _up: dict[tuple[Side, int], int] = field(default_factory=lambda: defaultdict(int))
    _down: dict[tuple[Side, int], int] = field(default_factory=lambda: defaultdict(int))
    _turn: dict[tuple[str, Side | None], int] = field(default_factory=lambda: defaultdict(int))

    @property
    def local_words(self) -> int:
        """Words of a slice that a layer takes: how far the next one's base is from its own."""
        return max(self._up.values(), default=0)

    def weights(
        self,
        what: str,
        part: tuple[int, ...],
        *,
        columns: int,
        number: Number,
        side: Side,
        local: bool = True,
    ) -> Weights:
        """A tile of weights that lies in memory before."""
        width = LOAD_STREAMS // NUMBER_BYTES[number]
        words = -(-columns // width)
        gangs = (self.timing.slices - OUTER - TABLES) // LOAD_STREAMS
        first = self._next("gang", side, gangs) * LOAD_STREAMS
        slices = tuple(range(first, first + LOAD_STREAMS))
        tensor = self._held(what, part, "int8", (side, slices), words, local=local)
        return Weights((tensor,), number, 0, words)

    def rows(
        self,
        number: Number,
        count: int,
        *,
        side: Side | None = None,
        slot: int | None = None,
        avoid: Sequence[Tensor] = (),
    ) -> Tensor:
        """Room for rows that are computed; sides and slices by turns, but none of tensors that
        are read while these are written.
        """
        side, slices = self._slot(number, side, slot, avoid)
        address = self._take(side, slices, count, local=False)
        return Tensor(number, side, slices, address, count, [LATER] * count)

    def table(
        self, what: str, part: tuple[int, ...], *, side: Side, slot: int, local: bool = True
    ) -> Tensor:
        """A vector of f16 that lies in memory before."""
        first = self.timing.slices - OUTER - TABLES + slot * NUMBER_BYTES["f16"]
        place = side, tuple(range(first, first + NUMBER_BYTES["f16"]))
        return self._held(what, part, "f16", place, 1, local=local)

    def given(
        self,
        what: str,
        part: tuple[int, ...],
        number: Number,
        count: int,
        *,
        side: Side | None = None,
        slot: int | None = None,
        avoid: Sequence[Tensor] = (),
        local: bool = False,
    ) -> Tensor:
        """Rows that lie in memory before; `avoid` as of rows that are computed."""
        place = self._slot(number, side, slot, avoid)
        return self._held(what, part, number, place, count, local=local)

    def _slot(
        self, number: Number, side: Side | None, slot: int | None, avoid: Sequence[Tensor]
    ) -> tuple[Side, tuple[int, ...]]:
        side = side or SIDES[self._next(number, None, len(SIDES))]
        width = NUMBER_BYTES[number]
        taken = {s for tensor in avoid if tensor.side == side for s in tensor.slices}
        slices: tuple[int, ...] = ()
        for _ in range(OUTER // width):
            at = self._next(number, side, OUTER // width) if slot is None else slot
            first = self.timing.slices - OUTER + at * width
            slices = tuple(range(first, first + width))
            if taken.isdisjoint(slices):
                break
        return side, slices

    def _next(self, what: str, side: Side | None, of: int) -> int:
        found = self._turn[what, side]
        self._turn[what, side] = (found + 1) % of
        return found

    def _held(
        self,
        what: str,
        part: tuple[int, ...],
        number: Number,
        place: tuple[Side, tuple[int, ...]],
        count: int,
        *,
        local: bool,
    ) -> Tensor:
        side, slices = place
        address = self._take(side, slices, count, local=local)
        self.pieces.append(Piece(what, part, side, slices, address, count, local))
        return Tensor(number, side, slices, address, count, local=local)

    def _take(self, side: Side, slices: Sequence[int], words: int, *, local: bool) -> int:
        grown = self._up if local else self._down
        keys = [(side, s) for s in slices]
        before = max(grown[key] for key in keys)
        for key in keys:
            grown[key] = before + words
        return before if local else self.timing.words - before - words

    def check(self) -> None:
        """Whether it fits.

        Raises:
            BadRequest: It does not; says how many words of a slice are missing.
        """
        shared = max(self._down.values(), default=0)
        most = 0
        for key in {*self._up, *self._down}:
            local = (self.layers - 1) * self.local_words + self._up[key]
            most = max(most, local + self._down[key])
        missing = most - self.timing.words
        if missing > 0:
            raise BadRequest(
                f"{self.layers} layers do not fit on a chip: {missing} words are missing in a slice"
                f" of {self.timing.words}",
                hint=f"a layer takes {self.local_words} words, {shared} are shared: fewer layers"
                " a chip",
            )
