"""Memory of chips that transfers and sums fill: groups of slices, each from its first word up.

Vectors that come at once from several chips are written at once, and read at once to be added;
so each port has a group of slices of its own. Others have the groups that remain.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from atoll.domain.errors import BadRequest
from atoll.lpu.compiler.chain import Tensor
from atoll.lpu.program import NUMBER_BYTES, SIDES, Number, Side
from atoll.lpu.timing import Timing

WIDEST = 4
"""Bytes of the longest numbers."""


class Ports:
    """What is given of each chip's memory: of `slices` of both sides, `group` at a time.

    Arrivals have the lower groups, by their ports; others the last `others`, a third unless told.
    """

    def __init__(
        self,
        timing: Timing,
        chips: int,
        *,
        slices: range | None = None,
        group: int = WIDEST,
        others: int | None = None,
    ) -> None:
        self.timing = timing
        self.chips = chips
        whole = range(timing.slices) if slices is None else slices
        self._groups = [
            tuple(whole[n : n + group]) for n in range(0, len(whole) - group + 1, group)
        ]
        self._arriving = len(self._groups) - (others or max(1, len(self._groups) // 3))
        self._used: dict[tuple[int, Side, int], int] = defaultdict(int)

    @property
    def count(self) -> int:
        """Ports with slices of their own."""
        return len(SIDES) * self._arriving

    def reserve(self, words: Mapping[Side, int], chip: int) -> None:
        """Leave the first words of the last group of a chip's sides to what lies there."""
        for side, count in words.items():
            self._used[chip, side, len(self._groups) - 1] = count

    def take(self, chip: int, side: Side, number: Number, count: int) -> Tensor:
        """Words for vectors of a chip, in the group of its side that has the most free.

        Raises:
            BadRequest: There are none.
        """
        groups = range(self._arriving, len(self._groups))
        group = min(groups, key=lambda g: self._used[chip, side, g])
        return self._place(chip, side, group, number, count)

    def everywhere(self, side: Side, number: Number, count: int) -> list[Tensor]:
        """The same words on every chip."""
        found = [self.take(chip, side, number, count) for chip in range(self.chips)]
        assert all(t.slices == found[0].slices and t.address == found[0].address for t in found)
        return found

    def arrivals(self, chip: int, port: int, number: Number, count: int) -> tuple[Tensor, int]:
        """Words for what comes to a port, and which of the link streams of its side it comes on;
        ports have the same ones where there are more ports than groups.
        """
        port %= self.count
        tensor = self._place(chip, SIDES[port % 2], port // 2, number, count)
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
        return Tensor(number, side, self._groups[group][: NUMBER_BYTES[number]], address, count)
