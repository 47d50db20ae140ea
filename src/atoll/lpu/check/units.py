"""Vector ALUs and switches: one vector in a cycle each. When an instruction uses its units."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from atoll.lpu.check.conflicts import Found, Uses, ints
from atoll.lpu.program import (
    SIDES,
    Instruction,
    Load,
    Multiply,
    Read,
    Receive,
    Send,
    Switch,
    Vector,
    Write,
)
from atoll.lpu.timing import Timing


def active(instruction: Instruction, timing: Timing) -> tuple[int, int]:
    """First and last true cycle, by the clock of the middle, in which an instruction uses a unit
    of the chip: a slice, a plane or the way out of it, an ALU, a switch, a link.
    """
    first = instruction.at
    last = first + (instruction.count - 1) * instruction.stride
    run, edge = last - first, timing.edge
    match instruction:
        case Read() | Write():
            where = timing.slice_positions
            near, far = where[min(instruction.slices)], where[max(instruction.slices)]
            if instruction.flow.way == "in":
                return first - far, last - near
            return first + near, last + far
        case Load():
            return first + edge, last + edge
        case Multiply():
            end = last + edge + timing.row_cycles(instruction.number) - 1
            if instruction.result is not None:
                end = max(end, instruction.result_at + run - edge)
            return first + edge, end
        case Vector():
            depth = max(instruction.depths(), default=0)
            return first, last + depth * timing.assumed.alu_cycles
        case Switch():
            position = timing.switch_position
            return first + position, instruction.result_at + run - position
        case Send():
            return first + edge, last + edge + timing.link_cycles - 1
        case Receive():
            return first - edge, last - edge


def window_conflicts(code: Sequence[Instruction], timing: Timing, cycles: int) -> Iterator[Found]:
    """What lies outside the cycles of its routine."""
    for n, instruction in enumerate(code):
        first, last = active(instruction, timing)
        if first < 0 or last >= cycles:
            what = f"active in cycles {first} to {last} of {cycles}"
            at = first if first < 0 else last
            yield Found("window", what, at, type(instruction).__name__.lower(), (n,))


def vector_conflicts(code: Sequence[Instruction], timing: Timing) -> Iterator[Found]:
    """Two operations of an ALU in one cycle."""
    rows = []
    for n, vector in enumerate(code):
        if isinstance(vector, Vector):
            depths = vector.depths()[len(vector.operands) :]
            for step, depth in zip(vector.steps, depths, strict=True):
                start = vector.at + (depth - 1) * timing.assumed.alu_cycles
                rows.append((step.alu, start, vector.count, vector.stride, n))
    for unit, cycle, one, other in _clashes(rows):
        yield Found(
            "vector", "two operations of an ALU at once", cycle, f"ALU {unit}", (one, other)
        )


def switch_conflicts(code: Sequence[Instruction], timing: Timing) -> Iterator[Found]:
    """Two vectors, or groups of them beside each other, in a switch in one cycle."""
    rows = [
        (SIDES.index(i.flow.side), i.at + timing.switch_position, i.count, i.stride, n)
        for n, i in enumerate(code)
        if isinstance(i, Switch)
    ]
    for unit, cycle, one, other in _clashes(rows):
        resource = f"switch in the {SIDES[unit]}"
        yield Found("switch", "two uses of a switch at once", cycle, resource, (one, other))


def _clashes(rows: Sequence[tuple[int, ...]]) -> Iterator[tuple[int, int, int, int]]:
    uses = Uses(*map(ints, zip(*rows, strict=True))) if rows else None
    if uses is not None:
        yield from zip(*(found.tolist() for found in uses.clashes(1)), strict=True)
