"""What a checker finds, and how it looks for it in arrays of uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from atoll.domain.errors import BadRequest
from atoll.lpu.program import Instruction
from atoll.lpu.wording import described

Kind = Literal[
    "form",
    "window",
    "address",
    "memory",
    "stream",
    "missing",
    "lost",
    "matrix",
    "timing",
    "vector",
    "switch",
    "link",
    "step",
    "block",
]
"""`form`: no such instruction. `window`: outside its routine. `address`: no such word. `memory`,
`stream`, `matrix`, `vector`, `switch`, `link`: two at once. `missing`: takes what nobody gives.
`lost`: gives what nobody takes. `timing`: a result is not there when the schedule says so.
`step`, `block`: the program around the routines.
"""
Ints = NDArray[np.int64]
KEY_MAX = 1 << 62


@dataclass(frozen=True, slots=True)
class Conflict:
    """Something that the machine cannot do.

    `chip` and `cycle` count as the routine does; where `routine` is empty, as the program does.
    Of a pair of instructions that meet in many cycles there is one conflict, of the first.
    """

    kind: Kind
    what: str
    chip: int
    cycle: int
    resource: str
    routine: str = ""
    instructions: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = f"{self.routine or 'program'}, chip {self.chip}, cycle {self.cycle}"
        who = "".join(f"\n  {text}" for text in self.instructions)
        return f"{self.kind}: {where}, {self.resource}: {self.what}{who}"


@dataclass(frozen=True, slots=True)
class Found:
    """A conflict of instructions of one chip, by their numbers."""

    kind: Kind
    what: str
    cycle: int
    resource: str
    who: tuple[int, ...]

    def on(self, routine: str, chip: int, code: Sequence[Instruction]) -> Conflict:
        """With its place and its instructions in words."""
        words = tuple(described(code[n]) for n in self.who)
        return Conflict(self.kind, self.what, chip, self.cycle, self.resource, routine, words)


def ints(values: Sequence[int]) -> Ints:
    """An array of them."""
    return np.array(values, dtype=np.int64)


def spread(counts: Ints) -> tuple[Ints, Ints]:
    """Row n repeated `counts[n]` times: numbers of rows, and a count from 0 within each."""
    rows = np.repeat(np.arange(len(counts)), counts)
    return rows, np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)


def pack(*fields: tuple[Ints | int, int]) -> tuple[Ints, list[int]]:
    """Fields in one number, the first the highest; each with how many values it can have.

    Returns:
        The numbers, and by how many bits each field is shifted.

    Raises:
        BadRequest: They do not fit into 62 bits.
    """
    shifts, total = [], 0
    for _, size in reversed(fields):
        shifts.append(total)
        total += max(1, size - 1).bit_length()
    if total > KEY_MAX.bit_length() - 1:
        raise BadRequest("the routine is too long to be checked", hint="split it")
    shifts.reverse()
    packed = sum(
        (np.asarray(v) << shift for (v, _), shift in zip(fields, shifts, strict=True)), ints([0])
    )
    return np.asarray(packed, dtype=np.int64), shifts


def first_of_pairs(one: Ints, other: Ints) -> Ints:
    """Places at which a pair of numbers occurs for the first time."""
    if not len(one):
        return one
    size = int(max(one.max(), other.max())) + 1
    return np.sort(np.unique(one * size + other, return_index=True)[1])


@dataclass(frozen=True, slots=True)
class Uses:
    """Bursts that use units; each array of shape (bursts,). Each vector of burst n holds unit
    `unit[n]` for some cycles from `at[n] + k * stride[n]` on; `who` is the instruction.
    """

    unit: Ints
    at: Ints
    count: Ints
    stride: Ints
    who: Ints

    def clashes(self, hold: int) -> tuple[Ints, Ints, Ints, Ints]:
        """Units, cycles and both instructions where a unit is wanted before `hold` cycles are
        over; of each pair the first.
        """
        if not len(self.at):
            return self.at, self.at, self.at, self.at
        row, n = spread(self.count)
        cycle = self.at[row] + n * self.stride[row]
        low, units, names = cycle.min(), int(self.unit.max()) + 1, int(self.who.max()) + 1
        length = int(cycle.max() - low) + 1
        key, shifts = pack((self.unit[row], units), (cycle - low, length), (self.who[row], names))
        key.sort()
        who = key & ((1 << shifts[1]) - 1)
        unit, cycle = key >> shifts[0], (key >> shifts[1]) & ((1 << (shifts[0] - shifts[1])) - 1)
        at = np.flatnonzero((unit[1:] == unit[:-1]) & (cycle[1:] - cycle[:-1] < hold))
        at = at[first_of_pairs(who[at], who[at + 1])]
        return unit[at], cycle[at + 1] + low, who[at], who[at + 1]
