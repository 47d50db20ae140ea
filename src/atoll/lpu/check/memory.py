"""Memory: one read and one write of a slice in a cycle, each in another bank, and what is written
can be read so many cycles later as memory takes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np

from atoll.lpu.check.conflicts import Found, Ints, first_of_pairs, ints, pack, spread
from atoll.lpu.figures import published
from atoll.lpu.program import SIDES, Instruction, Read, Write
from atoll.lpu.timing import Timing

Access = tuple[int, Read | Write]
READS = "two reads of a slice in one cycle"
WRITES = "two writes of a slice in one cycle"
BANKS = "a read and a write in one cycle, and not in different banks for certain"
FRESH = "a word is read before what was written is there"


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
    table = _Table([access for _, access in found], timing, bases)
    for what, at, after in (
        (READS, *table.at_once(False, False)),
        (WRITES, *table.at_once(True, True)),
        (BANKS, *table.at_once(False, True)),
        (FRESH, *table.fresh()),
    ):
        one, other = table.access(at), table.access(after)
        for k in first_of_pairs(one, other).tolist():
            part, number = divmod(int(table.port(after)[k]), timing.slices)
            resource = f"slice {number} in the {SIDES[part]}"
            who = (found[int(one[k])][0], found[int(other[k])][0])
            yield Found("memory", what, int(table.cycle(after)[k]), resource, who)


class _Table:
    """Every word that accesses have, in order of slice and cycle, reads before writes.

    Methods take places in that order; addresses are of the lowest and of the highest base.
    """

    def __init__(
        self, accesses: Sequence[Read | Write], timing: Timing, bases: tuple[int, int]
    ) -> None:
        row, _ = spread(ints([len(access.slices) for access in accesses]))
        slices = np.fromiter(chain.from_iterable(a.slices for a in accesses), dtype=np.int64)
        self._positions, self._slices = ints(timing.slice_positions), timing.slices
        self._outward = ints([1 if a.flow.way == "out" else -1 for a in accesses])
        self._at, self._stride = (
            ints([a.at for a in accesses]),
            ints([a.stride for a in accesses]),
        )
        self._writes = ints([isinstance(a, Write) for a in accesses]) == 1
        count = ints([a.count for a in accesses])
        cycle = self._at[row] + self._outward[row] * self._positions[slices]
        last = cycle + ((count - 1) * self._stride)[row]
        self._low = int(cycle.min())
        side = ints([SIDES.index(a.flow.side) for a in accesses])
        key, self._shifts = pack(
            (side[row] * timing.slices + slices, 2 * timing.slices),
            (cycle - self._low, int(last.max()) - self._low + 1),
            (self._writes[row].astype(np.int64), 2),
            (row, len(accesses)),
        )
        vector, n = spread(count[row])
        n *= (self._stride[row] << self._shifts[1])[vector]
        n += key[vector]
        n.sort()
        self._key = n
        self._both = np.flatnonzero((n[1:] ^ n[:-1]) < 1 << self._shifts[1])
        self._address = ints([a.address for a in accesses])
        self._step = ints([a.step for a in accesses])
        self._is_known = ints([not a.index for a in accesses]) == 1
        self._is_local = ints([a.local for a in accesses]) == 1
        self._bases = bases
        memory = published(timing.chip.memory, f"{timing.chip.name}: its memory")
        self._bank_words = timing.words // memory.banks
        self._memory_cycles = timing.assumed.memory_cycles

    def access(self, at: Ints) -> Ints:
        """Numbers of accesses."""
        return self._key[at] & ((1 << self._shifts[2]) - 1)

    def cycle(self, at: Ints) -> Ints:
        """True cycles."""
        size = self._shifts[0] - self._shifts[1]
        return ((self._key[at] >> self._shifts[1]) & ((1 << size) - 1)) + self._low

    def port(self, at: Ints) -> Ints:
        """Numbers of slices, over both sides."""
        return self._key[at] >> self._shifts[0]

    def _address_of(self, at: Ints) -> Ints:
        """Without base and index."""
        n, delay = self.access(at), self._positions[self.port(at) % self._slices]
        start = self._at[n] + self._outward[n] * delay
        return self._address[n] + (self.cycle(at) - start) // self._stride[n] * self._step[n]

    def _bank(self, at: Ints) -> Ints:
        """-1 where it is not the same in all steps for certain."""
        n, address = self.access(at), self._address_of(at)
        low, high = ((address + b * self._is_local[n]) // self._bank_words for b in self._bases)
        return np.where(self._is_known[n] & (low == high), low, -1)

    def at_once(self, first: bool, second: bool) -> tuple[Ints, Ints]:
        """Reads or writes of a slice in one cycle; a read and a write that may be of one bank."""
        at = self._both
        writes = self._writes[self.access(at)], self._writes[self.access(at + 1)]
        at = at[(writes[0] == first) & (writes[1] == second)]
        if first != second:
            banks = self._bank(at), self._bank(at + 1)
            at = at[(np.minimum(*banks) < 0) | (banks[0] == banks[1])]
        return at, at + 1

    def fresh(self) -> tuple[Ints, Ints]:
        """Writes, and reads of the same word before it is there.

        Of accesses whose addresses have different unknown parts, nothing is said.
        """
        found = [np.zeros(0, dtype=np.int64)] * 2
        writes = np.flatnonzero(self._key & (1 << self._shifts[2]))
        # In each cycle a slice has at most one read and one write, or is in conflict anyway.
        for ahead in range(1, 2 * self._memory_cycles - 1):
            at = writes[: np.searchsorted(writes, len(self._key) - ahead)]
            away = (self._key[at + ahead] >> self._shifts[1]) - (self._key[at] >> self._shifts[1])
            at = at[away < self._memory_cycles]
            at = at[~self._writes[self.access(at + ahead)]]
            after = at + ahead
            one, other = self.access(at), self.access(after)
            same = self._is_known[one] & self._is_known[other] & (self.port(at) == self.port(after))
            same &= self._is_local[one] == self._is_local[other]
            same &= self._address_of(at) == self._address_of(after)
            found = [np.append(found[0], at[same]), np.append(found[1], after[same])]
        return found[0], found[1]
