"""Values on streams: who gives each, who takes it, and whether another is in its way.

A value is on one stream of a side and way with one phase; only its place changes. Givers and
takers of that slot stand along the way, and a taker gets what the nearest giver before it gave.
At one place takers are before givers: a slice takes from the register before it and gives to the
one behind it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from atoll.lpu.check.conflicts import Found, Ints, first_of_pairs, ints, pack, spread
from atoll.lpu.program import (
    SIDES,
    Flow,
    Instruction,
    Load,
    Multiply,
    Read,
    Receive,
    Send,
    Switch,
    Vector,
    Way,
    Write,
)
from atoll.lpu.timing import Timing

WAYS: tuple[Way, Way] = ("in", "out")


class Tap(NamedTuple):
    """An instruction gives to streams, or takes from them, first with phase `at`.

    `positions` are of each stream.
    """

    flow: Flow
    at: int
    gives: bool
    positions: tuple[int, ...]


def taps(instruction: Instruction, timing: Timing) -> Iterator[Tap]:
    """All of an instruction."""
    at, edge = instruction.at, timing.edge
    match instruction:
        case Read() | Write():
            where = timing.slice_positions
            gives = isinstance(instruction, Read)
            positions = tuple([where[n] for n in instruction.slices])
            yield Tap(instruction.flow, at, gives, positions)
        case Load() | Send():
            yield _tap(instruction.flow, at, False, edge)
        case Receive():
            yield _tap(instruction.flow, at, True, edge)
        case Multiply():
            yield _tap(instruction.flow, at, False, edge)
            if instruction.result is not None:
                yield _tap(instruction.result, instruction.result_at, True, edge)
        case Switch():
            yield _tap(instruction.flow, at, False, timing.switch_position)
            yield _tap(instruction.result, instruction.result_at, True, timing.switch_position)
        case Vector():
            for operand in instruction.operands:
                yield _tap(operand.flow, at, False, 0)
            for result in instruction.results:
                yield _tap(result.flow, timing.left(instruction, result.value), True, 0)


def _tap(flow: Flow, at: int, gives: bool, position: int) -> Tap:
    return Tap(flow, at, gives, (position,) * flow.width)


@dataclass(frozen=True, slots=True)
class Traffic:
    """All vectors that a chip's instructions give to streams or take from them, in order of
    slot and then of the way; arrays of shape (vectors,).

    `place` counts registers along the way; `giver` is the place in these arrays of what a taker
    takes, and -1 where nothing is.
    """

    slot: Ints
    place: Ints
    gives: NDArray[np.bool_]
    who: Ints
    giver: Ints
    low: int
    phases: int

    def name(self, at: int, timing: Timing) -> tuple[str, int]:
        """Its stream, and the cycle in which it passes its place."""
        line, phase = divmod(int(self.slot[at]), self.phases)
        flow, stream = divmod(line, timing.streams)
        side, way = SIDES[flow // 2], WAYS[flow % 2]
        phase, place = phase + self.low, int(self.place[at])
        cycle = phase - (timing.edge - place) if way == "in" else phase + place
        return f"stream {side} {way} {stream}", cycle

    def _last_takers(self) -> Ints:
        is_last = np.append(self.gives[1:] | (self.slot[1:] != self.slot[:-1]), True)
        return np.flatnonzero(is_last & ~self.gives & (self.giver >= 0))

    @property
    def register_cycles(self) -> int:
        """Stream registers times cycles that hold a value which somebody still takes."""
        last = self._last_takers()
        return int((self.place[last] - self.place[self.giver[last]]).sum())

    def busy(self, timing: Timing, cycles: int) -> Ints:
        """Stream registers that hold a value which somebody still takes, of each side and way
        (west in, west out, east in, east out) in each cycle; shape (4, cycles).
        """
        last = self._last_takers()
        line, phase = np.divmod(self.slot[last], self.phases)
        flow = line // timing.streams
        # As `name` says of one: inward a vector of phase f is at the edge in cycle f - edge.
        start = phase + self.low - np.where(flow % 2 == WAYS.index("in"), timing.edge, 0)
        change = np.zeros((4, cycles + 1), dtype=np.int64)
        for at, by in ((self.giver[last], 1), (last, -1)):
            when = np.clip(start + self.place[at], 0, cycles)
            np.add.at(change, (flow, when), by)
        return np.cumsum(change, axis=1)[:, :cycles]


def traffic(code: Sequence[Instruction], timing: Timing) -> Traffic | None:
    """Of a chip; None if nothing is on its streams."""
    found = [(n, i, tap) for n, i in enumerate(code) for tap in taps(i, timing)]
    if not found:
        return None
    row, lane = spread(ints([tap.flow.width for _, _, tap in found]))
    line = ints([_line(tap.flow, timing.streams) for *_, tap in found])[row] + lane
    position = np.fromiter(chain.from_iterable(t.positions for *_, t in found), dtype=np.int64)
    is_in = ints([t.flow.way == "in" for *_, t in found])[row] == 1
    place = np.where(is_in, timing.edge - position, position)
    gives = ints([t.gives for *_, t in found])[row]
    at, count = ints([t.at for *_, t in found]), ints([i.count for _, i, _ in found])
    stride, who = ints([i.stride for _, i, _ in found]), ints([n for n, *_ in found])
    low = int(at.min())
    phases = 1 << int((at + (count - 1) * stride).max() - low + 1).bit_length()
    key, shifts = pack(
        (line, 4 * timing.streams),
        (at[row] - low, phases),
        (2 * place + gives, 2 * timing.edge + 2),
        (who[row], len(code)),
    )
    vector, n = spread(count[row])
    n *= (stride[row] << shifts[1])[vector]
    n += key[vector]
    n.sort()
    return _traffic(n, shifts, low, phases)


def _line(flow: Flow, streams: int) -> int:
    """Number of the first stream of a flow among all of a chip."""
    return (2 * SIDES.index(flow.side) + WAYS.index(flow.way)) * streams + flow.first


def _traffic(key: Ints, shifts: list[int], low: int, phases: int) -> Traffic:
    slot = key >> shifts[1]
    who = key & ((1 << shifts[2]) - 1)
    order = (key >> shifts[2]) & ((1 << (shifts[1] - shifts[2])) - 1)
    gives = (order & 1).astype(np.bool_)
    at = np.arange(len(key))
    starts = np.append(True, slot[1:] != slot[:-1])
    # Of a slot nobody has given to yet, the last giver is of a slot before.
    giver = np.maximum.accumulate(np.where(gives, at, -1))
    giver[giver < np.maximum.accumulate(np.where(starts, at, 0))] = -1
    return Traffic(slot, order >> 1, gives, who, giver, low, phases)


def stream_conflicts(code: Sequence[Instruction], timing: Timing) -> Iterator[Found]:
    """Values that are missing, lost or overwritten on a chip."""
    found = traffic(code, timing)
    if found is None:
        return
    gives, slot, who = found.gives, found.slot, found.who

    def named(at: int) -> tuple[int, str]:
        resource, cycle = found.name(at, timing)
        return cycle, resource

    for at in _first(np.flatnonzero(~gives & (found.giver < 0)), who):
        yield Found("missing", "nothing is there to take", *named(at), (int(who[at]),))
    same = np.append(slot[1:] == slot[:-1], False)
    after = np.append(gives[1:], True)
    for at in _first(np.flatnonzero(gives & ~same), who):
        yield Found("lost", "nothing takes what it gives", *named(at), (int(who[at]),))
    over = np.flatnonzero(gives & same & after)
    for at in over[first_of_pairs(who[over], who[over + 1])].tolist():
        what = "the second overwrites what the first gave before anything takes it"
        yield Found("stream", what, *named(at + 1), (int(who[at]), int(who[at + 1])))


def _first(at: Ints, who: Ints) -> list[int]:
    """Of each instruction the first of such places."""
    found: list[int] = at[first_of_pairs(who[at], who[at])].tolist()
    return found
