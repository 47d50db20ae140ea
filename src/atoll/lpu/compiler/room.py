"""Memory of chips that transfers and sums fill: groups of four slices, each from address 0 up.

Vectors that come at once from several chips are written at once, and read at once to be added;
so each port has a group of slices of its own. Others have what groups remain.
"""

from __future__ import annotations

from collections import defaultdict

from atoll.domain.errors import BadRequest
from atoll.lpu.compiler.chain import Tensor
from atoll.lpu.program import NUMBER_BYTES, SIDES, Number, Side
from atoll.lpu.timing import Timing

GROUP = 4
"""Slices of a group: bytes of the longest numbers. With the shipped floor, all are in one place."""


class Room:
    """What is given of each chip's memory; groups from `first` to `last` - 1 are used.

    Arrivals have the lower groups, by their ports; others the upper half of them.
    """

    def __init__(
        self, timing: Timing, chips: int, *, first: int = 0, last: int | None = None
    ) -> None:
        self.timing = timing
        self.chips = chips
        self.first = first
        self.last = timing.slices // GROUP if last is None else last
        self._ports = 2 * ((self.last - self.first) * 2 // 3)
        self._used: dict[tuple[int, Side, int], int] = defaultdict(int)

    def take(self, chip: int, side: Side, number: Number, count: int) -> Tensor:
        """Room for vectors of a chip, in the group of its side that has the most free.

        Raises:
            BadRequest: There is none.
        """
        groups = range(self.first + self._ports // 2, self.last)
        group = min(groups, key=lambda g: self._used[chip, side, g])
        return self._place(chip, side, group, number, count)

    def everywhere(self, side: Side, number: Number, count: int) -> list[Tensor]:
        """The same room on every chip."""
        found = [self.take(chip, side, number, count) for chip in range(self.chips)]
        assert all(t.slices == found[0].slices and t.address == found[0].address for t in found)
        return found

    def arrivals(self, chip: int, port: int, number: Number, count: int) -> tuple[Tensor, int]:
        """Room for what comes to a port, and the stream of its side on which it comes; ports
        are taken again when there are no more.
        """
        port %= self._ports
        tensor = self._place(chip, SIDES[port % 2], self.first + port // 2, number, count)
        return tensor, port // 2 % self.timing.assumed.link_streams

    def _place(self, chip: int, side: Side, group: int, number: Number, count: int) -> Tensor:
        key = (chip, side, group)
        address = self._used[key]
        if address + count > self.timing.words:
            raise BadRequest(
                f"{address + count} vectors in a slice of {self.timing.words} words",
                hint="fewer vectors, or several programs",
            )
        self._used[key] = address + count
        slices = tuple(range(group * GROUP, group * GROUP + NUMBER_BYTES[number]))
        return Tensor(number, side, slices, address, count)
