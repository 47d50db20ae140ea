"""Links between chips: each holds a vector for some cycles, and what is sent is received."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from atoll.lpu.check.conflicts import (
    Conflict,
    Found,
    Ints,
    Kind,
    Uses,
    first_of_pairs,
    ints,
    pack,
    spread,
)
from atoll.lpu.program import SIDES, Instruction, Receive, Routine, Send, Step
from atoll.lpu.timing import Timing
from atoll.lpu.topology import Topology

Code = Sequence[Sequence[Instruction]]
Ends = Sequence[tuple[int, int, Send | Receive]]
"""Chip, number of the instruction, instruction."""
_Line = tuple[int, int, int]


def anywhere(instruction: Instruction) -> Instruction:
    """The same, whichever chip is at the other end of a link: often all that chips differ in."""
    match instruction:
        case Send():
            return replace(instruction, to=0, lane=0)
        case Receive():
            return replace(instruction, source=0, lane=0)
    return instruction


def busy_links(code: Sequence[Instruction], timing: Timing) -> Iterator[Found]:
    """Vectors that want a link of a chip before it is done with another; more streams for links
    than an edge has.
    """
    sent = [(n, i) for n, i in enumerate(code) if isinstance(i, Send)]
    lines = sorted({(i.to, i.lane) for _, i in sent})
    number = {line: n for n, line in enumerate(lines)}
    uses = Uses(
        ints([number[i.to, i.lane] for _, i in sent]),
        ints([i.at + timing.edge for _, i in sent]),
        ints([i.count for _, i in sent]),
        ints([i.stride for _, i in sent]),
        ints([n for n, _ in sent]),
    )
    for line, cycle, one, other in zip(
        *(found.tolist() for found in uses.clashes(timing.link_cycles)), strict=True
    ):
        to, lane = lines[line]
        what = f"a vector holds a link for {timing.link_cycles} cycles"
        yield Found("link", what, cycle, f"link to chip {to}, lane {lane}", (one, other))
    received = [(n, i) for n, i in enumerate(code) if isinstance(i, Receive)]
    yield from _too_many(sent, timing, timing.edge)
    yield from _too_many(received, timing, -timing.edge)


def _too_many(
    ends: Sequence[tuple[int, Send | Receive]], timing: Timing, delay: int
) -> Iterator[Found]:
    """Cycles in which vectors of more streams pass an edge than are for links."""
    if not ends:
        return
    row, n = spread(ints([i.count for _, i in ends]))
    cycle = ints([i.at + delay for _, i in ends])[row] + n * ints([i.stride for _, i in ends])[row]
    low = cycle.min()
    side = ints([SIDES.index(i.flow.side) for _, i in ends])[row]
    stream = ints([i.flow.first for _, i in ends])[row]
    size = int(cycle.max() - low) + 1
    key, shifts = pack((side, 2), (cycle - low, size), (stream, timing.streams))
    key, places = np.unique(key, return_index=True)
    cells, starts, counts = np.unique(key >> shifts[1], return_index=True, return_counts=True)
    most = timing.assumed.link_streams
    for at in np.flatnonzero(counts > most)[:1].tolist():
        begin = int(starts[at])
        who = dict.fromkeys(ends[row[k]][0] for k in places[begin : begin + most + 1].tolist())
        when = int(cells[at] & ((1 << (shifts[0] - shifts[1])) - 1)) + int(low)
        edge = SIDES[int(cells[at]) >> (shifts[0] - shifts[1])]
        what = f"vectors of {counts[at]} streams at once, and {most} are for links"
        yield Found("link", what, when, f"edge in the {edge}", tuple(who))


@dataclass(frozen=True, slots=True)
class _Arrivals:
    """Vectors that cross links; arrays of shape (vectors,): the link, the phase in which a vector
    is with the receiver, and which of `ends` says so.
    """

    ends: Ends
    line: Ints
    phase: Ints
    end: Ints

    @classmethod
    def of(cls, ends: Ends, numbers: dict[_Line, int], delay: int) -> _Arrivals:
        row, n = spread(ints([i.count for *_, i in ends]))
        line = ints([numbers[_line(chip, i)] for chip, _, i in ends])[row]
        start, stride = ints([i.at + delay for *_, i in ends]), ints([i.stride for *_, i in ends])
        return cls(ends, line, start[row] + n * stride[row], row)

    def at(self, wrong: NDArray[np.bool_], kind: Kind, what: str) -> Iterator[tuple[int, Found]]:
        """A conflict of each end of which a vector is wrong, for the first of them."""
        at = np.flatnonzero(wrong)
        for k in at[first_of_pairs(self.end[at], self.end[at])].tolist():
            chip, n, end = self.ends[int(self.end[k])]
            source, to, lane = _line(chip, end)
            link = f"link from chip {source} to chip {to}, lane {lane}"
            what_phase = f"{what} (there in phase {self.phase[k]})"
            yield chip, Found(kind, what_phase, end.at, link, (n,))


def unmatched(code: Code, timing: Timing) -> Iterator[tuple[int, Found]]:
    """What is sent and not received, and what is received and not sent, each with its chip."""
    sent, got = _ends(code, Send), _ends(code, Receive)
    lines = sorted({_line(chip, end) for chip, _, end in (*sent, *got)})
    numbers = {line: n for n, line in enumerate(lines)}
    due = _Arrivals.of(sent, numbers, timing.received(0))
    there = _Arrivals.of(got, numbers, 0)
    phases = np.concatenate([due.phase, there.phase])
    if not len(phases):
        return
    low, size = int(phases.min()), int(phases.max() - phases.min()) + 1
    left, _ = pack((due.line, len(lines)), (due.phase - low, size))
    right, _ = pack((there.line, len(lines)), (there.phase - low, size))
    yield from due.at(~np.isin(left, right), "lost", "no chip receives it")
    yield from there.at(~np.isin(right, left), "missing", "no chip has sent it")
    again = np.ones(len(right), dtype=np.bool_)
    again[np.unique(right, return_index=True)[1]] = False
    yield from there.at(again, "link", "received twice")


def _ends(code: Code, kind: type[Send] | type[Receive]) -> Ends:
    return [(c, n, i) for c, on in enumerate(code) for n, i in enumerate(on) if isinstance(i, kind)]


def absent_links(routine: Routine, step: Step, topology: Topology) -> Iterator[Conflict]:
    """Links that the routine uses and that are not between the chips of a step."""
    used: dict[tuple[int, int], int] = {}
    for chip, code in enumerate(routine.chips):
        for end in code:
            if isinstance(end, Send):
                used[chip, end.to] = max(end.lane, used.get((chip, end.to), 0))
    for (one, other), lane in sorted(used.items()):
        if not max(one, other) < len(step.chips):
            continue
        source, to = step.chips[one], step.chips[other]
        if max(source, to) >= topology.chips or min(source, to) < 0:
            continue
        if lane >= (links := topology.parallel(source, to)):
            what = f"lane {lane} of {links} links"
            link = f"link from chip {source} to chip {to}"
            yield Conflict("link", what, source, step.at, link, routine.name)


def _line(chip: int, end: Send | Receive) -> _Line:
    """From which chip to which, and the lane."""
    if isinstance(end, Send):
        return chip, end.to, end.lane
    return end.source, chip, end.lane
