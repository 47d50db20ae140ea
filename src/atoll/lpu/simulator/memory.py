"""Memory of the chips: words of a lane's bytes, by chip, side, slice and address."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from atoll.domain.errors import BadRequest
from atoll.lpu.program import Side
from atoll.lpu.timing import Timing

Words = NDArray[np.uint8]


class Memory:
    """All words that were ever touched; others are zeros.

    A side is one array of zeros of shape (slices, words, lanes), which takes memory of this
    machine only where it is written.
    """

    def __init__(self, chips: int, timing: Timing) -> None:
        self._chips = chips
        self._shape = (timing.slices, timing.words, timing.lanes)
        self._sides: dict[tuple[int, Side], Words] = {}

    def side(self, chip: int, side: Side) -> Words:
        """A side's words, shape (slices, words, lanes)."""
        found = self._sides.get((chip, side))
        if found is None:
            if not 0 <= chip < self._chips:
                raise BadRequest(f"there is no chip {chip} of {self._chips}")
            found = self._sides[chip, side] = np.zeros(self._shape, np.uint8)
        return found

    def check(self, chip: int, side: Side, number: int, low: int, high: int) -> None:
        """Whether a slice has words `low` to `high`.

        Raises:
            BadRequest: It has not.
        """
        slices, words, _ = self._shape
        if not 0 <= number < slices:
            raise BadRequest(f"chip {chip}: no slice {number} in the {side}")
        if low < 0 or high >= words:
            outside = low if low < 0 else high
            raise BadRequest(
                f"chip {chip}: slice {number} in the {side} has {words} words, and no {outside}"
            )

    def peek(self, chip: int, side: Side, slices: Sequence[int], address: int, words: int) -> Words:
        """A copy of words from `address` on, shape (words, slices, lanes)."""
        self._check_all(chip, side, slices, address, words)
        found = self.side(chip, side)[list(slices), address : address + words]
        return found.transpose(1, 0, 2).copy()

    def poke(self, chip: int, side: Side, slices: Sequence[int], address: int, data: Words) -> None:
        """Put words, shape (words, slices, lanes), from `address` on."""
        lanes = self._shape[2]
        if data.dtype != np.uint8 or data.ndim != 3 or data.shape[1:] != (len(slices), lanes):
            raise BadRequest(
                f"chip {chip}: words of shape {data.shape} of {data.dtype} for {len(slices)} "
                f"slices of {lanes} lanes of bytes"
            )
        self._check_all(chip, side, slices, address, len(data))
        self.side(chip, side)[list(slices), address : address + len(data)] = data.transpose(1, 0, 2)

    def _check_all(
        self, chip: int, side: Side, slices: Sequence[int], address: int, words: int
    ) -> None:
        for number in slices:
            self.check(chip, side, number, address, address + words - 1)
