"""Where a chip's part of a product lies: weights, rows, and room for sums between them.

Inner slices hold weights, in gangs from which the columns of a tile come; outer slices hold
rows, in slots of as many slices as a number has bytes. The slices between are for what comes
over links and for sums, so that products and transfers do not wait for each other's slices.

Both sides of a chip have the same to do. Of column tiles that a chip has as a whole, every two
are one for each side. Of the others each side has half of the blocks of rows, and all weights.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from atoll.lpu.compiler.chain import Tensor
from atoll.lpu.compiler.rows.dense import blocks
from atoll.lpu.compiler.rows.room import LOAD_STREAMS, Weights
from atoll.lpu.compiler.spread.reduce_scatter import Span
from atoll.lpu.program import NUMBER_BYTES, SIDES, Number, Side
from atoll.lpu.timing import Timing

SLOTS_MIN = 4
"""Slots of a side for rows: as many planes read at once."""
GROUPS_MIN = 3
"""Groups of slices of a side for sums. All but one are for arrivals."""
ROWS_MIN = 40
"""Rows of a block, if there are so many: for as long as weights of a tile take to load."""
TIMES = 8
"""How often sums leave the planes of a chip, where that is to be often."""
PARTIAL: dict[Number, Number] = {"int8": "int32", "f16": "f16"}
"""In what format partial sums travel."""


def row_blocks(timing: Timing, rows: int, number: Number, *, fine: bool) -> tuple[range, ...]:
    """Rows in equal blocks, as many at a time as there are planes, or pairs of them: few, or if
    `fine` so many that sums of the first leave early and those of the last are few.
    """
    ways = len(SIDES) * (timing.planes if number == "int8" else 1)
    most = timing.assumed.accumulator_rows
    if rows < ways * ROWS_MIN:
        return tuple(blocks(rows, most))
    times = max(-(-rows // (ways * most)), min(rows // (ways * ROWS_MIN), TIMES if fine else 1))
    parts = Span(0, rows).split(times * ways)
    return tuple(range(part.first, part.first + part.count) for part in parts)


@dataclass(frozen=True, slots=True)
class Part:
    """A chip's tiles: of each run tiles of the depth, columns, and whether nobody else has some.

    Chips with equal parts do the same.
    """

    runs: tuple[tuple[Span, int, bool], ...]

    def sides(self, count: int) -> list[tuple[Side, ...]]:
        """Of each run which side's planes multiply each of so many blocks by it."""
        found: list[tuple[Side, ...]] = [()] * len(self.runs)
        if count % len(SIDES):
            load = dict.fromkeys(SIDES, 0)
            for n in sorted(range(len(self.runs)), key=lambda n: -self.runs[n][0].count):
                side = min(SIDES, key=lambda side: load[side])
                load[side] += self.runs[n][0].count
                found[n] = (side,) * count
            return found
        whole = [n for n, (_, _, is_whole) in enumerate(self.runs) if is_whole]
        paired = whole[: len(whole) // len(SIDES) * len(SIDES)]
        by_turns = tuple(SIDES[b % len(SIDES)] for b in range(count))
        for n in range(len(self.runs)):
            found[n] = (SIDES[paired.index(n) % len(SIDES)],) * count if n in paired else by_turns
        return found

    @property
    def depth(self) -> list[int]:
        """Tiles of the depth of which it needs the rows."""
        spans = [span for span, *_ in self.runs]
        return sorted({k for span in spans for k in range(span.first, span.first + span.count)})


@dataclass(frozen=True, slots=True)
class Layout:
    """Tensors of a chip: weights of run r for a side `tiles[r][side]` by tiles of its depth,
    `rows[block][k]` for k of the whole depth, partial sums `sums[r][block]`. `free` are slices
    of both sides for sums, in groups; of the last one of a side, `sums_taken` words are of
    partial sums. Rows have `slots` slots, weights `gangs` gangs.
    """

    tiles: list[dict[Side, list[Weights]]]
    rows: list[dict[int, Tensor]]
    sums: list[list[Tensor]]
    free: range
    sums_taken: dict[Side, int]
    slots: int
    gangs: int

    @classmethod
    def of(
        cls,
        timing: Timing,
        rows: Sequence[range],
        part: Part,
        number: Number,
        *,
        slots: int = SLOTS_MIN,
        gangs: int = 1,
    ) -> Layout | None:
        """Of a chip's part and blocks of rows; at least so many slots and gangs. None if it does
        not fit.
        """
        held, tiles = _Slots(timing, number, slots), _Weights(timing, number, gangs)
        sides = part.sides(len(rows))
        bytes_in, bytes_out = NUMBER_BYTES[number], NUMBER_BYTES[PARTIAL[number]]
        try:
            weights = [
                {
                    side: [tiles.take(side, columns) for _ in range(span.count)]
                    for side in dict.fromkeys(of)
                }
                for (span, columns, _), of in zip(part.runs, sides, strict=True)
            ]
            taken = [{k: held.take(len(block)) for k in part.depth} for block in rows]
        except _DoesNotFit:
            return None
        first = tiles.gangs * LOAD_STREAMS
        groups = (timing.slices - held.needed * bytes_in - first) // bytes_out
        if groups < GROUPS_MIN:
            return None
        free = range(first, first + groups * bytes_out)
        used: dict[Side, int] = defaultdict(int)
        sums: list[list[Tensor]] = []
        for of in sides:
            sums.append([])
            for side, block in zip(of, rows, strict=True):
                slices, at = tuple(free[-bytes_out:]), used[side]
                sums[-1].append(Tensor(PARTIAL[number], side, slices, at, len(block)))
                used[side] += len(block)
        if max(used.values()) > timing.words:
            return None
        tensors = [{k: held.tensor(*at) for k, at in block.items()} for block in taken]
        return cls(weights, tensors, sums, free, dict(used), held.needed, tiles.gangs)


def layouts(
    timing: Timing, rows: Sequence[range], parts: Sequence[Part], number: Number
) -> dict[Part, Layout] | None:
    """Of all parts, with the same slices for sums; None if one does not fit."""
    slots, gangs = SLOTS_MIN, 1
    found: dict[Part, Layout] = {}
    kinds = list(dict.fromkeys(parts))
    # What the largest needs is known when all have been laid out once.
    for part in (*kinds, *kinds):
        layout = Layout.of(timing, rows, part, number, slots=slots, gangs=gangs)
        if layout is None:
            return None
        found[part] = layout
        slots, gangs = layout.slots, layout.gangs
    return found


class _DoesNotFit(Exception):
    """Slices are not enough."""


class _Weights:
    """Words of gangs of slices, by turns; of int8, whose planes load on their own, at least two."""

    def __init__(self, timing: Timing, number: Number, gangs: int) -> None:
        self.timing, self.number = timing, number
        self.gangs = max(gangs, timing.planes if number == "int8" else 1)
        self._turn: dict[Side, int] = defaultdict(int)
        self._used: dict[tuple[Side, int], int] = defaultdict(int)

    def take(self, side: Side, columns: int) -> Weights:
        """Words of a tile, in a gang that has room or a new one."""
        words = -(-columns // (LOAD_STREAMS // NUMBER_BYTES[self.number]))
        while True:
            for _ in range(self.gangs):
                gang = self._turn[side] % self.gangs
                self._turn[side] += 1
                address = self._used[side, gang]
                if address + words <= self.timing.words:
                    self._used[side, gang] = address + words
                    slices = tuple(range(gang * LOAD_STREAMS, (gang + 1) * LOAD_STREAMS))
                    tensor = Tensor("int8", side, slices, address, words)
                    return Weights((tensor,), self.number, 0, words)
            self.gangs += 1
            if self.gangs * LOAD_STREAMS > self.timing.slices:
                raise _DoesNotFit


class _Slots:
    """Words of slots of slices for rows, by turns of sides and slots: the outermost first."""

    def __init__(self, timing: Timing, number: Number, slots: int) -> None:
        self.timing, self.number = timing, number
        self.needed = slots
        self._turn = 0
        self._used: dict[tuple[Side, int], int] = defaultdict(int)

    def take(self, count: int) -> tuple[Side, int, int, int]:
        """Side, slot, address and count."""
        while True:
            for _ in range(len(SIDES) * self.needed):
                side, slot = SIDES[self._turn % 2], self._turn // 2 % self.needed
                self._turn += 1
                address = self._used[side, slot]
                if address + count <= self.timing.words:
                    self._used[side, slot] = address + count
                    return side, slot, address, count
            self.needed += 1
            if self.needed * NUMBER_BYTES[self.number] > self.timing.slices:
                raise _DoesNotFit

    def tensor(self, side: Side, slot: int, address: int, count: int) -> Tensor:
        """What was taken."""
        width = NUMBER_BYTES[self.number]
        first = self.timing.slices - (slot + 1) * width
        return Tensor(self.number, side, tuple(range(first, first + width)), address, count)
