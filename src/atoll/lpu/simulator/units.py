"""Instructions as the simulator has them: of a chip, checked, and divisible into vectors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import assert_never

from atoll.domain.errors import BadRequest
from atoll.lpu.program import (
    NUMBER_BYTES,
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
from atoll.lpu.simulator.alu import kinds
from atoll.lpu.timing import Timing


@dataclass(frozen=True, slots=True)
class Unit:
    """An instruction, or a part of one, on a chip of a routine.

    Of a part, `first` is its first slice's number among the `slices` of the whole: an index may
    have one integer for each.
    """

    chip: int
    instruction: Instruction
    first: int = 0
    slices: int = 0

    def __str__(self) -> str:
        found = self.instruction
        name = f"{type(found).__name__} on chip {self.chip} of the routine at phase {found.at}"
        flow = getattr(found, "flow", None)
        return f"{name} ({_named(flow)})" if flow else name

    @property
    def whole(self) -> bool:
        """Whether there is nothing to divide."""
        found = self.instruction
        one_slice = not isinstance(found, Read | Write) or len(found.slices) == 1
        return isinstance(found, Load) or (found.count == 1 and one_slice)


def _named(flow: Flow) -> str:
    last = flow.first + flow.width - 1
    return f"{flow.side} {flow.way}, streams {flow.first} to {last}"


def unit_of(chip: int, instruction: Instruction) -> Unit:
    """A whole instruction."""
    slices = len(instruction.slices) if isinstance(instruction, Read | Write) else 0
    return Unit(chip, instruction, 0, slices)


def cycle(way: Way, position: int, phase: int) -> int:
    """Cycle in which what flows so is at a position."""
    return phase - position if way == "in" else phase + position


def vectors(unit: Unit) -> Iterator[Unit]:
    """Its vectors, of memory those of each slice: together they do what it does."""
    found = unit.instruction
    if unit.whole:
        yield unit
        return
    for n in range(found.count):
        at = found.at + n * found.stride
        match found:
            case Read() | Write():
                for i, number in enumerate(found.slices):
                    one = replace(
                        found,
                        at=at,
                        count=1,
                        flow=found.flow.part(i, 1),
                        slices=(number,),
                        address=found.address + n * found.step,
                    )
                    yield Unit(unit.chip, one, unit.first + i, unit.slices)
            case Multiply():
                part = replace(found, at=at, count=1, row=found.row + n)
                part = replace(part, result_at=found.result_at + n * found.stride)
                yield Unit(unit.chip, replace(part, install=found.install and n == 0))
            case Switch():
                result_at = found.result_at + n * found.stride
                yield Unit(unit.chip, replace(found, at=at, count=1, result_at=result_at))
            case Vector() | Send() | Receive():
                yield Unit(unit.chip, replace(found, at=at, count=1))
            case Load():
                raise AssertionError("a load is whole")
            case _:
                assert_never(found)


def check(unit: Unit, timing: Timing, chips: int, cycles: int) -> None:
    """Whether the chip could do it at all.

    Raises:
        BadRequest: It has no such streams, slices or planes, numbers do not fit the streams,
            results are due when the chip does not have them, or it lies outside the routine.
    """
    found = unit.instruction
    if found.count < 1 or found.stride < 1:
        raise BadRequest(f"{unit}: a burst of {found.count}, one every {found.stride} cycles")
    match found:
        case Read() | Write():
            _check_memory(unit, found, timing)
        case Load() | Multiply():
            _check_matrix(unit, found, timing)
        case Vector():
            _check_vector(unit, found, timing)
        case Switch():
            _streams(unit, found.flow, "out", timing)
            _streams(unit, found.result, "in", timing, width=found.flow.width)
            _same_side(unit, found.flow, found.result)
            _due(unit, found.result_at, timing.switched(found.at))
        case Send():
            _streams(unit, found.flow, "out", timing, width=1)
            _peer(unit, found.to, chips)
        case Receive():
            _streams(unit, found.flow, "in", timing, width=1)
            _peer(unit, found.source, chips)
        case _:
            assert_never(found)
    for way, position in places(found, timing):
        begin = cycle(way, position, found.at)
        end = cycle(way, position, found.end)
        if begin < 0 or end > cycles:
            raise BadRequest(
                f"{unit}: acts in cycles {begin} to {end - 1}, and the routine has {cycles}"
            )


def places(found: Instruction, timing: Timing) -> list[tuple[Way, int]]:
    """How what it takes or gives flows, and where it stands: of memory, each slice."""
    match found:
        case Read() | Write():
            return [(found.flow.way, timing.slice_positions[n]) for n in found.slices]
        case Vector():
            return [("in", 0)]
        case Switch():
            return [("out", timing.switch_position)]
        case Load() | Multiply() | Send() | Receive():
            return [(found.flow.way, timing.edge)]
        case _:
            assert_never(found)


def _streams(unit: Unit, flow: Flow, way: str, timing: Timing, *, width: int = 0) -> None:
    if flow.way != way:
        raise BadRequest(f"{unit}: streams that flow {way} are wanted, not {_named(flow)}")
    if flow.first < 0 or flow.width < 1 or flow.first + flow.width > timing.streams:
        raise BadRequest(f"{unit}: no such streams: {_named(flow)}")
    if width and flow.width != width:
        raise BadRequest(f"{unit}: {_named(flow)}: {width} are wanted")


def _same_side(unit: Unit, flow: Flow, result: Flow) -> None:
    if flow.side != result.side:
        raise BadRequest(f"{unit}: its result cannot leave in the {result.side}")


def _due(unit: Unit, said: int, due: int) -> None:
    if said != due:
        raise BadRequest(f"{unit}: its result is there at phase {due}, and not at {said}")


def _peer(unit: Unit, chip: int, chips: int) -> None:
    if not 0 <= chip < chips or chip == unit.chip:
        raise BadRequest(f"{unit}: no link to chip {chip} of a routine of {chips}")


def _check_memory(unit: Unit, found: Read | Write, timing: Timing) -> None:
    _streams(unit, found.flow, found.flow.way, timing, width=len(found.slices))
    if len(set(found.slices)) < len(found.slices):
        raise BadRequest(f"{unit}: a slice serves one stream at a time, and not two")
    for number in found.slices:
        if not 0 <= number < timing.slices:
            raise BadRequest(f"{unit}: no slice {number}")


def _check_matrix(unit: Unit, found: Load | Multiply, timing: Timing) -> None:
    if found.number not in {"int8", "f16"}:
        raise BadRequest(f"{unit}: planes multiply int8 and f16, and not {found.number}")
    if not 0 <= found.plane < (timing.planes if found.number == "int8" else 1):
        raise BadRequest(f"{unit}: no plane {found.plane} of a side for {found.number}")
    size = NUMBER_BYTES[found.number]
    if isinstance(found, Load):
        _streams(unit, found.flow, "out", timing)
        if found.flow.width % size:
            raise BadRequest(f"{unit}: numbers of {size} bytes on {_named(found.flow)}")
        if found.count * (found.flow.width // size) > timing.columns:
            raise BadRequest(f"{unit}: more than the {timing.columns} columns of a plane")
        return
    _streams(unit, found.flow, "out", timing, width=size)
    rows = timing.assumed.accumulator_rows
    if found.row < 0 or found.row + found.count > rows:
        last = found.row + found.count - 1
        raise BadRequest(f"{unit}: accumulators {found.row} to {last} of {rows}")
    if found.result is not None:
        _streams(unit, found.result, "in", timing, width=4)
        _same_side(unit, found.flow, found.result)
        _due(unit, found.result_at, timing.multiplied(found.at))


def _check_vector(unit: Unit, found: Vector, timing: Timing) -> None:
    for operand in found.operands:
        _streams(unit, operand.flow, "in", timing, width=NUMBER_BYTES[operand.number])
    known = kinds(found, str(unit))
    for result in found.results:
        _streams(unit, result.flow, "out", timing, width=NUMBER_BYTES[result.number])
        if not 0 <= result.value < len(known):
            raise BadRequest(f"{unit}: there is no value {result.value}")
        if known[result.value] != result.number:
            raise BadRequest(
                f"{unit}: value {result.value} is {known[result.value]}, not {result.number}",
                hint="convert it by a step of its own",
            )
