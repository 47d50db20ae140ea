"""Instructions that are none: wrong streams, ways, widths, numbers, delays."""

from __future__ import annotations

from collections.abc import Iterator

from atoll.lpu.check.conflicts import Found, Kind
from atoll.lpu.program import (
    NUMBER_BYTES,
    SIDES,
    Flow,
    Instruction,
    Load,
    Multiply,
    Read,
    Receive,
    Send,
    Side,
    Switch,
    Vector,
    Way,
    Write,
)
from atoll.lpu.timing import FORMATS, Timing

BINARY = frozenset({"add", "sub", "mul", "max", "min"})
"""Operations of two arguments; others have one."""
Problem = tuple[Kind, str]


def malformed(number: int, instruction: Instruction, timing: Timing, chips: int) -> Iterator[Found]:
    """What is wrong with an instruction by itself, on one of `chips` chips of a routine."""
    for kind, what in _problems(instruction, timing, chips):
        resource = type(instruction).__name__.lower()
        yield Found(kind, what, instruction.at, resource, (number,))


def _problems(instruction: Instruction, timing: Timing, chips: int) -> Iterator[Problem]:
    if instruction.count < 1 or instruction.stride < 1:
        yield "form", f"{instruction.count} vectors, one every {instruction.stride} cycles"
    match instruction:
        case Read() | Write():
            yield from _memory(instruction, timing)
        case Load() | Multiply():
            yield from _matrix(instruction, timing)
        case Vector():
            yield from _vector(instruction, timing)
        case Switch():
            yield from _flow(instruction.flow, timing, way="out")
            yield from _flow(
                *(instruction.result, timing),
                way="in",
                side=instruction.flow.side,
                width=instruction.flow.width,
            )
            yield from _phase(instruction.result_at, timing.switched(instruction.at))
        case Send():
            yield from _flow(instruction.flow, timing, way="out", width=1)
            yield from _link(instruction, instruction.to, timing, chips)
        case Receive():
            yield from _flow(instruction.flow, timing, way="in", width=1)
            yield from _link(instruction, instruction.source, timing, chips)


def _flow(
    flow: Flow,
    timing: Timing,
    *,
    way: Way | None = None,
    side: Side | None = None,
    width: int = 0,
) -> Iterator[Problem]:
    if flow.side not in SIDES or flow.way not in ("in", "out"):
        yield "form", f"no flow is called {flow.side} {flow.way}"
    if flow.first < 0 or flow.width < 1 or flow.first + flow.width > timing.streams:
        yield "form", f"streams {flow.first} to {flow.first + flow.width - 1} of {timing.streams}"
    if way and flow.way != way:
        yield "form", f"it stands where streams flow {way}"
    if side and flow.side != side:
        yield "form", f"its result is in the {side}"
    if width and flow.width != width:
        yield "form", f"{flow.width} streams beside each other, where it has {width}"


def _phase(found: int, due: int) -> Iterator[Problem]:
    if found != due:
        yield "timing", f"the result has phase {due}, and not {found}"


def _memory(instruction: Read | Write, timing: Timing) -> Iterator[Problem]:
    yield from _flow(instruction.flow, timing, width=len(instruction.slices))
    for n in instruction.slices:
        if not 0 <= n < timing.slices:
            yield "form", f"slice {n} of {timing.slices}"


def _matrix(instruction: Load | Multiply, timing: Timing) -> Iterator[Problem]:
    number, flow = instruction.number, instruction.flow
    if number not in FORMATS:
        yield "form", f"matrices of {number} are not multiplied"
        return
    planes = timing.planes if number == "int8" else 1
    if not 0 <= instruction.plane < planes:
        yield "form", f"plane {instruction.plane} of {planes}"
    width = NUMBER_BYTES[number]
    if isinstance(instruction, Load):
        yield from _flow(flow, timing, way="out")
        if flow.width % width:
            yield "form", f"{flow.width} streams are no whole numbers of {number}"
        end = instruction.column + instruction.count * (flow.width // width)
        if instruction.column < 0 or end > timing.columns:
            yield "form", f"columns {instruction.column} to {end - 1} of {timing.columns}"
        return
    yield from _flow(flow, timing, way="out", width=width)
    row_cycles, rows = timing.row_cycles(number), timing.assumed.accumulator_rows
    if instruction.count > 1 and instruction.stride < row_cycles:
        yield "matrix", f"a vector occupies the plane for {row_cycles} cycles"
    if instruction.row < 0 or instruction.row + instruction.count > rows:
        yield "form", f"accumulator {instruction.row + instruction.count - 1} of {rows}"
    if instruction.result is not None:
        yield from _flow(instruction.result, timing, way="in", side=flow.side, width=4)
        yield from _phase(instruction.result_at, timing.multiplied(instruction.at))


def _vector(vector: Vector, timing: Timing) -> Iterator[Problem]:
    for operand in vector.operands:
        yield from _flow(operand.flow, timing, way="in", width=NUMBER_BYTES[operand.number])
    for result in vector.results:
        yield from _flow(result.flow, timing, way="out", width=NUMBER_BYTES[result.number])
    known, used = len(vector.operands), set()
    for step in vector.steps:
        if not 0 <= step.alu < timing.alus:
            yield "form", f"ALU {step.alu} of {timing.alus}"
        if len(step.arguments) != 1 + (step.op in BINARY):
            yield "form", f"{step.op} of {len(step.arguments)} arguments"
        for argument in step.arguments:
            if isinstance(argument, int):
                used.add(argument)
                if not 0 <= argument < known:
                    yield "form", f"value {argument} is not there yet"
        known += 1
    for result in vector.results:
        used.add(result.value)
        if not 0 <= result.value < known:
            yield "form", f"there is no value {result.value}"
    for value in range(known):
        if value not in used:
            yield "lost", f"nothing uses value {value}"


def _link(instruction: Send | Receive, other: int, timing: Timing, chips: int) -> Iterator[Problem]:
    if not 0 <= other < chips:
        yield "form", f"chip {other} of {chips}"
    if instruction.lane < 0:
        yield "form", f"lane {instruction.lane}"
    if instruction.count > 1 and instruction.stride < timing.link_cycles:
        yield "link", f"a vector occupies a link for {timing.link_cycles} cycles"
