"""What a chip does over time, as rows of bars: the data of a picture of a schedule.

Rows are the chip's units from its west edge through its middle to its east edge, so that a
vector on its way shows as a slant; links come last. `lpu_picture` and `lpu_page` draw it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal, NamedTuple

import numpy as np

from atoll.domain.errors import BadRequest
from atoll.lpu.check.conflicts import Ints
from atoll.lpu.check.streams import WAYS, traffic
from atoll.lpu.check.units import active
from atoll.lpu.program import (
    SIDES,
    Instruction,
    Load,
    Multiply,
    Program,
    Read,
    Receive,
    Routine,
    Send,
    Side,
    Step,
    Switch,
    Vector,
    Write,
)
from atoll.lpu.timing import Timing
from atoll.lpu.wording import described

Kind = Literal["read", "write", "load", "multiply", "switch", "vector", "send", "receive", "phase"]
KINDS: dict[Kind, str] = {
    "read": "memory is read",
    "write": "memory is written",
    "load": "weights enter a matrix plane",
    "multiply": "a matrix plane multiplies",
    "switch": "lanes are shifted",
    "vector": "an ALU computes",
    "send": "a link sends",
    "receive": "a link receives",
    "phase": "what is being computed",
}
"""Kinds of bars, and what each means."""
SAMPLES_MAX = 4000
"""Of how full the streams are, at most so many means are kept."""


class Row(NamedTuple):
    """A unit, or a few that stand at one place. Of its kinds of bars the first is above."""

    group: str
    name: str
    kinds: tuple[Kind, ...]


class Bar(NamedTuple):
    """A unit of a row is busy in cycles `begin` to `end - 1`, for `share` of them."""

    row: int
    kind: Kind
    begin: int
    end: int
    share: float
    text: int
    bursts: int = 1


@dataclass(frozen=True, slots=True)
class Fill:
    """How full the streams of a row are: of each `every` cycles the mean, from 0 to 1."""

    row: int
    every: int
    shares: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Timeline:
    """What a chip does in cycles `begin` to `end - 1`. `texts` are of bars, by number; bars are in
    order of row, kind and time.
    """

    title: str
    hertz: float
    begin: int
    end: int
    rows: tuple[Row, ...]
    bars: tuple[Bar, ...]
    fills: tuple[Fill, ...]
    texts: tuple[str, ...]

    def merged(self, cycles: float) -> tuple[Bar, ...]:
        """Bars for a picture in which less than so many cycles cannot be told apart: those that
        are shorter become one with neighbours of their kind that are as near.
        """
        found: list[Bar] = []
        for bar in self.bars:
            last = found[-1] if found else None
            if (
                last is not None
                and bar.kind != "phase"
                and (last.row, last.kind) == (bar.row, bar.kind)
                and bar.begin - last.end < cycles
                and min(last.end - last.begin, bar.end - bar.begin) < cycles
            ):
                found[-1] = _joined(last, bar)
            else:
                found.append(bar)
        return tuple(found)


def with_phases(timeline: Timeline, phases: Sequence[tuple[str, int, int]]) -> Timeline:
    """With a row above all others that says what is being computed: name, first cycle, and the
    cycle after the last.
    """
    texts = (*timeline.texts, *(name for name, _, _ in phases))
    above = [
        Bar(0, "phase", begin, end, 1.0, len(timeline.texts) + n)
        for n, (_, begin, end) in enumerate(phases)
    ]
    return replace(
        timeline,
        rows=(Row("phase", "", ("phase",)), *timeline.rows),
        bars=(*above, *(bar._replace(row=bar.row + 1) for bar in timeline.bars)),
        fills=tuple(replace(fill, row=fill.row + 1) for fill in timeline.fills),
        texts=texts,
    )


def _joined(one: Bar, other: Bar) -> Bar:
    end = max(one.end, other.end)
    used = one.share * (one.end - one.begin) + other.share * (other.end - other.begin)
    share = min(1.0, used / (end - one.begin))
    return one._replace(end=end, share=share, bursts=one.bursts + other.bursts)


def of_routine(routine: Routine, timing: Timing, chip: int) -> Timeline:
    """A routine on one of its chips.

    Raises:
        BadRequest: It has no such chip.
    """
    if not 0 <= chip < len(routine.chips):
        raise BadRequest(f"{routine.name} has {len(routine.chips)} chips, and no chip {chip}")
    chips = tuple(range(len(routine.chips)))
    program = Program(len(chips), (routine,), (Step(0, chips, 0),))
    title = f"Schedule of {routine.name} on chip {chip} of {len(routine.chips)}"
    return replace(of_steps(program, timing, chip), title=title)


def of_steps(
    program: Program, timing: Timing, chip: int, steps: Sequence[int] | None = None
) -> Timeline:
    """Steps of a program on a chip, all of them or those of some numbers, from the beginning of
    the first to the end of the last.

    Raises:
        BadRequest: The chip has none of them.
    """
    numbers = range(len(program.steps)) if steps is None else steps
    runs = [program.steps[n] for n in numbers if chip in program.steps[n].chips]
    if not runs:
        raise BadRequest(f"chip {chip} does nothing in these steps")
    begin = min(run.at for run in runs)
    end = max(run.at + program.routines[run.routine].cycles for run in runs)
    codes = [(run, program.routines[run.routine].chips[run.chips.index(chip)]) for run in runs]
    rows = _rows(timing, [_others(run, i) for run, code in codes for i in code])
    places = {(row.group, row.name): n for n, row in enumerate(rows)}
    texts: list[str] = []
    bars: list[Bar] = []
    for run, code in codes:
        name = program.routines[run.routine].name
        for instruction in code:
            for piece in _pieces(instruction, timing, _others(run, instruction)):
                row = places[piece.group, piece.name]
                first, last = piece.begin + run.at, piece.end + run.at
                bars.append(Bar(row, piece.kind, first, last, piece.share, len(texts)))
            texts.append(f"{name}: {described(instruction)}")
    fills = _fills(codes, timing, rows, begin, end)
    order = {kind: n for n, kind in enumerate(KINDS)}
    bars.sort(key=lambda bar: (bar.row, order[bar.kind], bar.begin, bar.end))
    name = program.routines[runs[0].routine].name
    what = name if len(runs) == 1 else f"{len(runs)} steps from {name} on"
    title = f"Schedule of {what}, on chip {chip} of {program.chips}"
    return Timeline(title, timing.chip.hertz, begin, end, rows, tuple(bars), fills, tuple(texts))


class _Piece(NamedTuple):
    group: str
    name: str
    kind: Kind
    begin: int
    end: int
    share: float


def _rows(timing: Timing, others: Iterable[int]) -> tuple[Row, ...]:
    """All units from west to east, and the neighbours that links go to."""
    rows: list[Row] = []
    groups = [
        tuple(of) for _, of in groupby(range(timing.slices), timing.slice_positions.__getitem__)
    ]
    for side in SIDES:
        own: list[Row] = [
            *(Row(*_plane(side, n), ("load", "multiply")) for n in range(timing.planes)),
            Row(f"{side} switch", "switch", ("switch",)),
            *(Row(*_slices(side, of), ("read", "write")) for of in reversed(groups)),
            *(Row(f"{side} streams", f"flowing {way}", ()) for way in reversed(WAYS)),
        ]
        if side == "east":
            own.reverse()
            rows += [Row("vector unit", f"ALU {n}", ("vector",)) for n in range(timing.alus)]
        rows += own
    known = sorted({other for other in others if other >= 0})
    rows += [Row("links", f"chip {other}", ("send", "receive")) for other in known]
    return tuple(rows)


def _plane(side: Side, plane: int) -> tuple[str, str]:
    return f"{side} matrix", f"plane {plane}"


def _slices(side: Side, slices: Sequence[int]) -> tuple[str, str]:
    return f"{side} memory", f"slices {slices[0]}-{slices[-1]}"


def _others(run: Step, instruction: Instruction) -> int:
    """The program's chip at the other end of a link, or -1."""
    match instruction:
        case Send():
            return run.chips[instruction.to]
        case Receive():
            return run.chips[instruction.source]
    return -1


def _pieces(instruction: Instruction, timing: Timing, other: int) -> Iterator[_Piece]:
    """Where and when an instruction is busy, by true cycles from the routine's first."""
    at, edge = instruction.at, timing.edge
    run = (instruction.count - 1) * instruction.stride

    def piece(place: tuple[str, str], kind: Kind, start: int, hold: int = 1) -> _Piece:
        share = instruction.count * hold / (run + hold)
        return _Piece(*place, kind, start, start + run + hold, min(1.0, share))

    match instruction:
        case Read() | Write():
            kind: Kind = "read" if isinstance(instruction, Read) else "write"
            where, flow = timing.slice_positions, instruction.flow
            for position in sorted({where[n] for n in instruction.slices}):
                start = at - position if flow.way == "in" else at + position
                of = [n for n, here in enumerate(where) if here == position]
                yield piece(_slices(flow.side, of), kind, start)
        case Load() | Multiply():
            is_load = isinstance(instruction, Load)
            hold = 1 if is_load else timing.row_cycles(instruction.number)
            planes = range(timing.planes) if instruction.number == "f16" else [instruction.plane]
            for plane in planes:
                place = _plane(instruction.flow.side, plane)
                yield piece(place, "load" if is_load else "multiply", at + edge, hold)
        case Switch():
            place = (f"{instruction.flow.side} switch", "switch")
            yield piece(place, "switch", at + timing.switch_position)
        case Vector():
            depths = instruction.depths()[len(instruction.operands) :]
            for step, depth in zip(instruction.steps, depths, strict=True):
                start = at + (depth - 1) * timing.assumed.alu_cycles
                yield piece(("vector unit", f"ALU {step.alu}"), "vector", start)
        case Send():
            yield piece(("links", f"chip {other}"), "send", at + edge, timing.link_cycles)
        case Receive():
            yield piece(("links", f"chip {other}"), "receive", at - edge)


def _fills(
    codes: Sequence[tuple[Step, tuple[Instruction, ...]]],
    timing: Timing,
    rows: Sequence[Row],
    begin: int,
    end: int,
) -> tuple[Fill, ...]:
    total = np.zeros((4, end - begin))
    known: dict[int, Ints] = {}
    for run, code in codes:
        if id(code) not in known and (on := traffic(code, timing)) is not None:
            known[id(code)] = on.busy(timing, max(active(i, timing)[1] for i in code) + 1)
        if (busy := known.get(id(code))) is not None:
            room = total[:, run.at - begin :][:, : busy.shape[1]]
            room += busy[:, : room.shape[1]]
    total /= timing.streams * timing.edge
    every = -(-(end - begin) // SAMPLES_MAX)
    padded = np.pad(total, ((0, 0), (0, -(end - begin) % every)))
    shares = padded.reshape(4, -1, every).mean(axis=2)
    found = []
    for n, (side, way) in enumerate((side, way) for side in SIDES for way in WAYS):
        row = next(k for k, r in enumerate(rows) if r[:2] == (f"{side} streams", f"flowing {way}"))
        found.append(Fill(row, every, tuple(shares[n].round(4).tolist())))
    return tuple(found)
