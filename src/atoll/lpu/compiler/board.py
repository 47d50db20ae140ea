"""What a chip's parts are taken for, cycle by cycle, while a schedule is made.

Parts of a kind are bits of a word for each cycle. An instruction asks for some of them at some
offsets from its phase, and gets the first phase in which all are free: no part is ever asked
for by two, so that nothing has to be arbitrated when the schedule runs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FIRST_CYCLES = 1 << 12
BEFORE = 64
"""Cycles before 0 for which there is room: phases of what happens at an edge are earlier."""


@dataclass(frozen=True, slots=True)
class Need:
    """Bits `mask` of `parts` in cycles `offset`, `offset + stride`, ... from a phase on."""

    parts: Hashable
    mask: int
    offset: int
    count: int = 1
    stride: int = 1


class Board:
    """Who has what when, on one chip."""

    def __init__(self) -> None:
        self._taken: dict[Hashable, NDArray[np.uint64]] = defaultdict(
            lambda: np.zeros(FIRST_CYCLES, np.uint64)
        )

    def copy(self) -> Board:
        """Another one, on which the same is taken."""
        found = Board()
        for parts, taken in self._taken.items():
            found._taken[parts] = taken.copy()
        return found

    def first(self, at: int, needs: Iterable[Need]) -> int:
        """The first phase from `at` on in which everything that is needed is free."""
        needs = list(needs)
        sure = 0
        while sure < len(needs):
            for need in needs:
                wait = self._wait(at, need)
                if wait:
                    at += wait
                    sure = 0
                    continue
                sure += 1
                if sure >= len(needs):
                    break
        return at

    def take(self, at: int, needs: Iterable[Need]) -> None:
        """Take it; asking for what is taken is an error of the caller."""
        for need in needs:
            window = self._window(at, need)
            mask = np.uint64(need.mask)
            assert not (window & mask).any(), f"{need.parts} is taken in cycle {at + need.offset}"
            window |= mask

    def use(self, at: int, needs: Iterable[Need]) -> int:
        """Take everything in the first phase from `at` on in which it is free."""
        needs = list(needs)
        at = self.first(at, needs)
        self.take(at, needs)
        return at

    def _wait(self, at: int, need: Need) -> int:
        """Cycles by which it has to be later for this need at least; 0 if it is free."""
        mask = np.uint64(need.mask)
        busy = self._window(at, need) & mask
        if not busy.any():
            return 0
        if need.stride == 1:
            # Any less would come upon the same cycle again.
            return int(np.flatnonzero(busy)[-1]) + 1
        # With a stride it may pass beside what is there: of the cycles between two vectors the
        # first in which none of the burst meets anything.
        whole = Need(need.parts, need.mask, need.offset, need.count * need.stride)
        between = (self._window(at, whole) & mask).reshape(need.count, need.stride)
        free = np.flatnonzero(~between.any(axis=0))
        return int(free[0]) if free.size else need.stride

    def _window(self, at: int, need: Need) -> NDArray[np.uint64]:
        start = at + need.offset + BEFORE
        assert start >= 0, f"cycle {at + need.offset} is before the schedule"
        stop = start + (need.count - 1) * need.stride + 1
        taken = self._taken[need.parts]
        if stop > len(taken):
            longer = np.zeros(max(stop, 2 * len(taken)), np.uint64)
            longer[: len(taken)] = taken
            self._taken[need.parts] = taken = longer
        return taken[start : stop : need.stride]
