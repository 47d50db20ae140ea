"""How much of each chip a program uses: shares of what the chip could do in the time.

Everything follows from the instructions. A share is of all cycles of the program, idle ones
included; what a step does is counted as often as it runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from atoll.lpu.check.links import anywhere
from atoll.lpu.check.streams import traffic
from atoll.lpu.figures import published
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
    Switch,
    Vector,
    Write,
)
from atoll.lpu.timing import FORMATS, Timing


@dataclass(frozen=True, slots=True)
class Amounts:
    """What instructions do on a chip, added up.

    `*_cycles` are cycles times units that are busy: ports, stream registers, planes, ALUs,
    switches, links. `full_rate_cycles`: cycles that the products would take if all planes
    multiplied full vectors at their peak.
    """

    instructions: int = 0
    reads: int = 0
    writes: int = 0
    register_cycles: int = 0
    load_cycles: int = 0
    multiply_cycles: int = 0
    weight_words: int = 0
    products: int = 0
    full_rate_cycles: float = 0.0
    alu_cycles: int = 0
    switch_cycles: int = 0
    link_cycles: int = 0
    sent: int = 0
    received: int = 0

    def plus(self, other: Amounts) -> Amounts:
        """Both together."""
        return Amounts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Amounts)))


@dataclass(frozen=True, slots=True)
class Usage:
    """What a chip does in `cycles`; shares are 1 where every unit is busy in every cycle.

    `read` and `write` are of ports of memory, `streams` of stream registers that hold a value
    which is still wanted, `load` and `multiply` of matrix planes, `products` of the peak of
    multiply-adds, `links` of the links out that chips of the kind have. Bytes are of vectors;
    `weight_bytes` go into the planes. `instructions` are bursts: in how many bytes the machine
    writes one down is not published.
    """

    chip: int
    cycles: int
    read: float
    write: float
    streams: float
    load: float
    multiply: float
    products: float
    alus: float
    switches: float
    links: float
    read_bytes: int
    write_bytes: int
    weight_bytes: int
    sent_bytes: int
    received_bytes: int
    instructions: int
    held_bytes: int
    held: float


def amounts(code: Sequence[Instruction], timing: Timing) -> Amounts:
    """Of one chip's instructions in a routine."""
    total = Amounts(instructions=len(code))
    for instruction in code:
        total = total.plus(_amounts(instruction, timing))
    on = traffic(code, timing)
    return total.plus(Amounts(register_cycles=on.register_cycles if on else 0))


def _amounts(instruction: Instruction, timing: Timing) -> Amounts:
    count = instruction.count
    match instruction:
        case Read():
            return Amounts(reads=count * len(instruction.slices))
        case Write():
            return Amounts(writes=count * len(instruction.slices))
        case Load():
            planes = timing.planes if instruction.number == "f16" else 1
            words = count * instruction.flow.width
            return Amounts(load_cycles=count * planes, weight_words=words)
        case Multiply():
            return _products(instruction, timing)
        case Vector():
            return Amounts(alu_cycles=count * len(instruction.steps))
        case Switch():
            return Amounts(switch_cycles=count)
        case Send():
            return Amounts(link_cycles=count * timing.link_cycles, sent=count)
        case Receive():
            return Amounts(received=count)


def _products(multiply: Multiply, timing: Timing) -> Amounts:
    planes = timing.planes if multiply.number == "f16" else 1
    products = multiply.count * timing.lanes * timing.columns
    return Amounts(
        multiply_cycles=multiply.count * timing.row_cycles(multiply.number) * planes,
        products=products,
        full_rate_cycles=products / timing.chip.macs_cycle(FORMATS[multiply.number]),
    )


def _by_chip(routine: Routine, timing: Timing) -> list[Amounts]:
    known: dict[tuple[Instruction, ...], Amounts] = {}
    found = []
    for code in routine.chips:
        alike = tuple(map(anywhere, code))
        if alike not in known:
            known[alike] = amounts(alike, timing)
        found.append(known[alike])
    return found


def usage(program: Program, timing: Timing) -> list[Usage]:
    """Of each chip of a program, in order."""
    done = [Amounts()] * program.chips
    each = [_by_chip(routine, timing) for routine in program.routines]
    for step in program.steps:
        for chip, found in zip(step.chips, each[step.routine], strict=True):
            done[chip] = done[chip].plus(found)
    held = [0] * program.chips
    for block in program.blocks:
        held[block.chip] += block.words * len(block.slices)
    return [
        _usage(chip, program.cycles, found, words, timing)
        for chip, (found, words) in enumerate(zip(done, held, strict=True))
    ]


def _usage(chip: int, cycles: int, done: Amounts, words: int, timing: Timing) -> Usage:
    sides, lanes = len(SIDES), timing.lanes
    time = max(1, cycles)
    ports = sides * timing.slices * time
    planes = sides * timing.planes * time
    links = published(timing.chip.links, f"{timing.chip.name}: its links").count
    registers = 2 * sides * timing.streams * timing.edge
    return Usage(
        chip=chip,
        cycles=cycles,
        read=done.reads / ports,
        write=done.writes / ports,
        streams=done.register_cycles / (registers * time),
        load=done.load_cycles / planes,
        multiply=done.multiply_cycles / planes,
        products=done.full_rate_cycles / time,
        alus=done.alu_cycles / (timing.alus * time),
        switches=done.switch_cycles / (sides * time),
        links=done.link_cycles / (links * time),
        read_bytes=done.reads * lanes,
        write_bytes=done.writes * lanes,
        weight_bytes=done.weight_words * lanes,
        sent_bytes=done.sent * lanes,
        received_bytes=done.received * lanes,
        instructions=done.instructions,
        held_bytes=words * lanes,
        held=words / (sides * timing.slices * timing.words),
    )
