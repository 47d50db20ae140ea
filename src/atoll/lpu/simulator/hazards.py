"""In which order words of memory are read and written.

An access is what an instruction does in one slice: word `address + n * step` in cycle
`cycle + n * stride`. Of two accesses to a slice of which one writes, every word that both have
is had first by the one whose cycle is earlier. Where addresses are known only when the routine
runs (its base, indices), a pair is ordered by time alone if one access is over before the other
begins; otherwise it is doubtful, and compared anew in each run. Very few are, and most come in
the right order whatever the addresses.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from atoll.domain.errors import BadRequest
from atoll.lpu.program import Read, Side, Write
from atoll.lpu.simulator.units import Unit, cycle
from atoll.lpu.timing import Timing

Offset = Callable[[Read | Write, int], int]
"""What a run adds to the addresses of an instruction in its slice of that number."""


@dataclass(frozen=True, slots=True)
class Access:
    """What unit `unit` does in the slice that has number `number` in the whole instruction."""

    unit: int
    number: int
    writes: bool
    cycle: int
    stride: int
    address: int
    step: int
    count: int
    kind: tuple[bool, str, int, int]
    """Accesses of one kind have the same added to their addresses."""

    @property
    def end(self) -> int:
        """The cycle after the last."""
        return self.cycle + (self.count - 1) * self.stride + 1

    @property
    def low(self) -> int:
        """The lowest address."""
        return self.address + min(0, (self.count - 1) * self.step)

    @property
    def high(self) -> int:
        """The highest address."""
        return self.address + max(0, (self.count - 1) * self.step)


@dataclass(frozen=True, slots=True)
class Hazards:
    """Pairs of units of which the first goes before, and pairs of accesses that are doubtful."""

    edges: frozenset[tuple[int, int]]
    doubtful: tuple[tuple[Access, Access], ...]


FIXED = (False, "", 0, 0)


def accesses(
    units: Mapping[int, Unit], timing: Timing, offset: Offset | None
) -> dict[tuple[int, Side, int], list[Access]]:
    """All accesses by chip, side and slice; with `offset`, at the addresses of a run."""
    found: dict[tuple[int, Side, int], list[Access]] = defaultdict(list)
    for u, unit in units.items():
        had = unit.instruction
        if not isinstance(had, Read | Write):
            continue
        for i, number in enumerate(had.slices):
            position = timing.slice_positions[number]
            added, kind = 0, FIXED
            if offset:
                added = offset(had, unit.first + i)
            elif had.index:
                kind = (had.local, had.index, unit.first + i, unit.slices)
            elif had.local:
                kind = (True, "", 0, 0)
            found[unit.chip, had.flow.side, number].append(
                Access(
                    unit=u,
                    number=unit.first + i,
                    writes=isinstance(had, Write),
                    cycle=cycle(had.flow.way, position, had.at),
                    stride=had.stride,
                    address=had.address + added,
                    step=had.step,
                    count=had.count,
                    kind=kind,
                )
            )
    return found


def order_accesses(
    units: Mapping[int, Unit], timing: Timing, bases: range, offset: Offset | None = None
) -> Hazards:
    """The order of all accesses of a routine.

    Args:
        units: By number.
        timing: Positions of slices.
        bases: From the least to the greatest base with which the routine runs.
        offset: What a run adds to addresses, if it is one run that is asked for.

    Raises:
        BadRequest: A word is written in a cycle in which it is also read or written.
    """
    edges: set[tuple[int, int]] = set()
    doubtful: list[tuple[Access, Access]] = []
    for (chip, side, number), all_of in accesses(units, timing, offset).items():
        for one, other in _pairs(all_of, bases, timing.words):
            if one.kind == other.kind:
                first, second, same = compare(one, other)
                if same:
                    raise BadRequest(
                        f"slice {number} of the {side}: {units[one.unit]} and "
                        f"{units[other.unit]} have a word of it in one cycle (chip {chip})"
                    )
                edges |= {(one.unit, other.unit)} if first else set()
                edges |= {(other.unit, one.unit)} if second else set()
            elif one.end <= other.cycle:
                edges.add((one.unit, other.unit))
            elif other.end <= one.cycle:
                edges.add((other.unit, one.unit))
            else:
                doubtful.append((one, other))
    return Hazards(frozenset(edges), tuple(doubtful))


def _pairs(found: list[Access], bases: range, words: int) -> Iterator[tuple[Access, Access]]:
    """Pairs that write and may have a word in common, each once."""
    if not any(a.writes for a in found):
        return
    lows, highs = _reach(found, bases, words)
    kinds = {kind: i for i, kind in enumerate(dict.fromkeys(a.kind for a in found))}
    kind = np.array([kinds[a.kind] for a in found])
    near = np.array([[a.low, a.high] for a in found], np.int64)
    writes = np.array([a.writes for a in found])
    order = np.arange(len(found))
    for i, one in enumerate(found):
        if not one.writes:
            continue
        # Of one kind, what is added is the same, and addresses as they stand decide.
        alike = (near[:, 0] <= one.high) & (near[:, 1] >= one.low)
        meets = np.where(kind == kind[i], alike, (lows <= highs[i]) & (highs >= lows[i]))
        meets &= (order != i) & ~(writes & (order < i))
        for j in np.flatnonzero(meets).tolist():
            yield one, found[j]


def _reach(
    found: list[Access], bases: range, words: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The lowest and the highest address of each access in any run."""
    lows, highs = [], []
    for access in found:
        local, index, *_ = access.kind
        lows.append(0 if index else access.low + local * bases.start)
        highs.append(words - 1 if index else access.high + local * (bases.stop - 1))
    return np.array(lows, np.int64), np.array(highs, np.int64)


def compare(one: Access, other: Access) -> tuple[bool, bool, bool]:
    """Of words that both have: whether `one` has some first, `other` some, both some at once."""
    if one.high < other.low or other.high < one.low:
        return False, False, False
    if other.step == 0:
        if one.step == 0:
            return _compare_word(one, other)
        second, first, same = compare(other, one)
        return first, second, same
    # Each vector n of `one`, and the vector of `other` that has the same word, if any.
    n = np.arange(one.count)
    word, rest = np.divmod(one.address + n * one.step - other.address, other.step)
    hits = (rest == 0) & (word >= 0) & (word < other.count)
    ahead = (other.cycle + word * other.stride - one.cycle - n * one.stride)[hits]
    return bool((ahead > 0).any()), bool((ahead < 0).any()), bool((ahead == 0).any())


def _compare_word(one: Access, other: Access) -> tuple[bool, bool, bool]:
    """Of a word that both have again and again."""
    first = one.cycle < other.end - 1
    second = other.cycle < one.end - 1
    times = one.cycle + np.arange(one.count) * one.stride - other.cycle
    n, rest = np.divmod(times, other.stride)
    return first, second, bool(((rest == 0) & (n >= 0) & (n < other.count)).any())


def wrong(
    doubtful: Iterable[tuple[Access, Access]], added: Callable[[Access], int], rank: Sequence[int]
) -> bool:
    """Whether a run needs an order of its own.

    Args:
        doubtful: Pairs of accesses.
        added: What the run adds to the addresses of an access.
        rank: When each unit comes in the order that there is.
    """
    for one, other in doubtful:
        here, there = added(one), added(other)
        if one.low + here > other.high + there or other.low + there > one.high + here:
            continue
        moved = replace(one, address=one.address + here - there)
        first, second, same = compare(moved, other)
        ahead = rank[one.unit] < rank[other.unit]
        if same or (first and not ahead) or (second and ahead):
            return True
    return False
