"""Split over chips: which tiles of a matrix each chip has.

A matrix is a grid of tiles of as many of its rows and columns as a plane has. The grid is a line:
all tiles of the depth of the first column tile, then of the second, and so on. Each chip has an
equal part of the line: runs of tiles of a column tile, of which only the first and the last are
not all of its depth. Chips that share a column tile follow each other, and add partial sums.
"""

from __future__ import annotations

from dataclasses import dataclass

from atoll.domain.errors import BadRequest
from atoll.lpu.compiler.spread.reduce_scatter import Span


@dataclass(frozen=True, slots=True)
class Run:
    """Tiles of the depth of a column tile."""

    column: int
    depth: Span


@dataclass(frozen=True, slots=True)
class Split:
    """A grid of so many tiles of the depth and column tiles, over so many chips in a line."""

    depth: int
    columns: int
    chips: int

    def part(self, place: int) -> Span:
        """Tiles of the chip at a place of the line; the longer parts come first."""
        each, more = divmod(self.depth * self.columns, self.chips)
        return Span(place * each + min(place, more), each + (place < more))

    def runs(self, place: int) -> tuple[Run, ...]:
        """Tiles of the chip at a place, by column tiles."""
        part = self.part(place)
        found, at, end = [], part.first, part.first + part.count
        while at < end:
            column, first = divmod(at, self.depth)
            count = min(self.depth - first, end - at)
            found.append(Run(column, Span(first, count)))
            at += count
        return tuple(found)

    def is_whole(self, run: Run) -> bool:
        """Whether nobody else has tiles of its column tile."""
        return run.depth.count == self.depth

    def groups(self) -> tuple[tuple[int, ...], ...]:
        """Of each column tile the places of the line that have some of it."""
        found: list[list[int]] = [[] for _ in range(self.columns)]
        for place in range(self.chips):
            for run in self.runs(place):
                found[run.column].append(place)
        return tuple(map(tuple, found))


def split(depth: int, width: int, chips: int, lanes: int, columns: int) -> Split:
    """Of a matrix of a depth and width, in tiles of so many lanes and columns, over as many of
    the chips as there are tiles.

    Raises:
        BadRequest: There are no chips.
    """
    if chips < 1:
        raise BadRequest(f"a product on {chips} chips", hint="at least one")
    deep, wide = -(-depth // lanes), -(-width // columns)
    return Split(deep, wide, min(chips, deep * wide))
