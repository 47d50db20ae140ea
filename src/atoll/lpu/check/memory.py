"""Memory: one read and one write of a slice in a cycle, each in another bank."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from atoll.lpu.check.conflicts import Found, Ints, first_of_pairs, ints, pack, spread
from atoll.lpu.figures import published
from atoll.lpu.program import SIDES, Instruction, Read, Write
from atoll.lpu.timing import Timing

Access = tuple[int, Read | Write]


def memory_conflicts(
    code: Sequence[Instruction], timing: Timing, bases: Sequence[int]
) -> Iterator[Found]:
    """Accesses of a chip that meet, or that are of no word.

    Args:
        code: Instructions of the chip.
        timing: Positions of slices.
        bases: Of local addresses, in all steps that run the routine.
    """
    found = [(n, i) for n, i in enumerate(code) if isinstance(i, Read | Write)]
    low, high = min(bases, default=0), max(bases, default=0)
    for n, access in found:
        yield from _outside(n, access, timing.words, (low, high))
    if found:
        yield from _meetings(found, timing, (low, high))


def _reach(access: Read | Write, bases: tuple[int, int]) -> tuple[int, int]:
    """Lowest and highest address, of all steps, without the index."""
    ends = (access.address, access.address + (access.count - 1) * access.step)
    low, high = bases if access.local else (0, 0)
    return min(ends) + low, max(ends) + high


def _outside(n: int, access: Read | Write, words: int, bases: tuple[int, int]) -> Iterator[Found]:
    low, high = _reach(access, bases)
    if access.index:
        # Whatever the index is: addresses that lie so far apart are not all of a slice.
        low, high = 0, (access.count - 1) * abs(access.step)
    if low < 0 or high >= words:
        what = f"addresses {low} to {high} of {words} words"
        yield Found("address", what, access.at, "memory", (n,))


def _meetings(found: Sequence[Access], timing: Timing, bases: tuple[int, int]) -> Iterator[Found]:
    accesses = [access for _, access in found]
    row, _ = spread(ints([len(access.slices) for access in accesses]))
    slices = np.fromiter(chain.from_iterable(a.slices for a in accesses), dtype=np.int64)
    position = ints(timing.slice_positions)[slices]
    outward = ints([1 if a.flow.way == "out" else -1 for a in accesses])
    side = ints([SIDES.index(a.flow.side) for a in accesses])
    writes = ints([isinstance(a, Write) for a in accesses])
    at, count = ints([a.at for a in accesses]), ints([a.count for a in accesses])
    stride = ints([a.stride for a in accesses])
    cycle = at[row] + outward[row] * position
    last = cycle + ((count - 1) * stride)[row]
    low = int(cycle.min())
    key, shifts = pack(
        (side[row] * timing.slices + slices, 2 * timing.slices),
        (cycle - low, int(last.max()) - low + 1),
        (writes[row], 2),
        (row, len(accesses)),
    )
    vector, n = spread(count[row])
    n *= (stride[row] << shifts[1])[vector]
    n += key[vector]
    n.sort()
    same = np.flatnonzero((n[1:] >> shifts[1]) == (n[:-1] >> shifts[1]))
    one, other = (n[k] & ((1 << shifts[2]) - 1) for k in (same, same + 1))
    cell = n[same] >> shifts[1]
    when = (cell & ((1 << (shifts[0] - shifts[1])) - 1)) + low
    port = n[same] >> shifts[0]
    reads_and_writes = writes[one] != writes[other]
    start = ints(timing.slice_positions)[port % timing.slices]
    first, second = ((k, (when - at[k] - outward[k] * start) // stride[k]) for k in (one, other))
    apart = reads_and_writes & _Banks(accesses, timing, bases).differ(first, second)
    one, other, when, port = (a[~apart] for a in (one, other, when, port))
    for k in first_of_pairs(one, other).tolist():
        i, j = int(one[k]), int(other[k])
        part, number = divmod(int(port[k]), timing.slices)
        resource = f"slice {number} in the {SIDES[part]}"
        what = _said(accesses[i], accesses[j])
        yield Found("memory", what, int(when[k]), resource, (found[i][0], found[j][0]))


class _Banks:
    """In which bank each vector of accesses is, as far as that is known before the program runs."""

    def __init__(
        self, accesses: Sequence[Read | Write], timing: Timing, bases: tuple[int, int]
    ) -> None:
        memory = published(timing.chip.memory, f"{timing.chip.name}: its memory")
        self._words = timing.words // memory.banks
        self._address = ints([a.address for a in accesses])
        self._step = ints([a.step for a in accesses])
        self._is_known = ints([not a.index for a in accesses]) == 1
        self._low, self._high = (ints([b * a.local for a in accesses]) for b in bases)

    def _bank(self, access: Ints, n: Ints) -> Ints:
        """-1 where it is not the same for certain."""
        address = self._address[access] + n * self._step[access]
        low = (address + self._low[access]) // self._words
        high = (address + self._high[access]) // self._words
        return np.where(self._is_known[access] & (low == high), low, -1)

    def differ(self, one: tuple[Ints, Ints], other: tuple[Ints, Ints]) -> NDArray[np.bool_]:
        """Where two accesses, each of its n-th vector, are in different banks for certain."""
        banks = self._bank(*one), self._bank(*other)
        apart: NDArray[np.bool_] = (np.minimum(*banks) >= 0) & (banks[0] != banks[1])
        return apart


def _said(one: Read | Write, other: Read | Write) -> str:
    if isinstance(one, Read) and isinstance(other, Read):
        return "two reads of a slice in one cycle"
    if isinstance(one, Write) and isinstance(other, Write):
        return "two writes of a slice in one cycle"
    return "a read and a write in one cycle, and not in different banks for certain"
