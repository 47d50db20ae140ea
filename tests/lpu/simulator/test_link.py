"""Random schedules against a chip of registers that shift cycle by cycle."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import numpy as np
import pytest
from tests.support.lpu_programs import Bytes, flow, random_words, tsp
from tests.support.lpu_registers import Registers

from atoll.domain.errors import BadRequest
from atoll.lpu.program import (
    Flow,
    Instruction,
    Operand,
    Program,
    Read,
    Result,
    Routine,
    Step,
    Switch,
    Vector,
    Way,
    Write,
)
from atoll.lpu.simulator.simulator import Simulator

CYCLES = 400
SLICES = (0, 1, 5, 17, 18, 43)
WORDS = 170
BASE = 9
KINDS = ("vector", "switch", "write", "write", "write", "read")
INDICES = {"a": 4, "b": -3}
Gave = set[tuple[str, int, int, int]]


def made(chance: random.Random, kind: str) -> Instruction:
    """An instruction at random, among few streams, slices, addresses and phases."""
    at, count, stride = chance.randint(90, 150), chance.randint(1, 12), chance.choice((1, 1, 2, 3))
    way: Way = chance.choice(("in", "out"))
    if kind in {"read", "write"}:
        width = chance.choice((1, 1, 2))
        if kind == "read":
            # Long, so that there is much to take.
            count, stride = 5 * count, chance.choice((1, 1, 2))
        return (Read if kind == "read" else Write)(
            at=at - 10 if kind == "read" else at,
            count=count,
            stride=stride,
            flow=flow("west", way, chance.randint(0, 2), width),
            slices=tuple(chance.sample(SLICES, width)),
            address=chance.randint(74, 90),
            step=chance.choice((1, 1, 0, -1, 2 if count <= 20 else 1)),
            index=chance.choice(("", "", "", "a", "b")),
            local=chance.random() < 0.3,
        )
    if kind == "switch":
        return Switch(
            at=at,
            count=count,
            stride=stride,
            flow=flow("west", "out", chance.randint(0, 3)),
            result=flow("west", "in", chance.randint(0, 3)),
            result_at=tsp().switched(at),
            shift=chance.randint(0, 319),
        )
    return Vector(
        at=at,
        count=count,
        stride=stride,
        operands=(Operand(flow("west", "in", chance.randint(0, 3)), "int8"),),
        steps=(),
        results=(Result(0, flow("west", "out", chance.randint(0, 3)), "int8"),),
    )


def gives(found: Instruction) -> Gave:
    """Way, stream, position and phase of all that it puts on streams."""
    lanes: list[tuple[Flow, int, int, int]] = []
    if isinstance(found, Read):
        places = tsp().slice_positions
        lanes = [(found.flow, i, places[n], found.at) for i, n in enumerate(found.slices)]
    elif isinstance(found, Switch):
        lanes = [(found.result, 0, tsp().switch_position, found.result_at)]
    elif isinstance(found, Vector):
        lanes = [(found.results[0].flow, 0, 0, found.at)]
    phases = range(0, found.count * found.stride, found.stride)
    return {(f.way, f.first + i, p, at + d) for f, i, p, at in lanes for d in phases}


def simulated(program: tuple[Instruction, ...], words: Bytes) -> Bytes | None:
    """Memory afterwards, or nothing if it is refused."""
    routine = Routine("random", (program,), CYCLES)
    # Another layer far away, so that bases differ.
    steps = (Step(0, (0,), 0, BASE), Step(0, (1,), 0, BASE + 1000))
    try:
        chips = Simulator(Program(2, (routine,), steps), tsp())
        chips.poke(0, "west", SLICES, 0, words)
        chips.run(INDICES)
    except BadRequest as error:
        if "nobody gave" in str(error) or "in one cycle" in str(error):
            return None
        raise
    return chips.peek(0, "west", SLICES, 0, WORDS)


def shifted(program: tuple[Instruction, ...], words: Bytes) -> Bytes | None:
    """The same of registers."""
    chip = Registers(tsp())
    for i, number in enumerate(SLICES):
        chip.memory |= {(number, n): words[n, i] for n in range(len(words))}
    try:
        chip.run((_at_address(found) for found in program), CYCLES)
    except LookupError:
        return None
    rows = [[chip.memory[number, n] for number in SLICES] for n in range(WORDS)]
    return np.array(rows)


def _at_address(found: Instruction) -> Instruction:
    if not isinstance(found, Read | Write):
        return found
    more = (BASE if found.local else 0) + INDICES.get(found.index, 0)
    return replace(found, address=found.address + more, index="", local=False)


def accepted(chance: random.Random, words: Bytes) -> tuple[Instruction, ...]:
    """Instructions that together are possible, added one by one; of those that are not, both
    chips must say so.
    """
    program: tuple[Instruction, ...] = ()
    gave: Gave = set()
    kinds = itertools.chain(["read"] * 16, itertools.cycle(KINDS))
    for n, kind in enumerate(kinds):
        if n >= 76 and sum(isinstance(found, Write) for found in program) >= 3:
            break
        one = made(chance, kind)
        if gave & gives(one):
            continue
        longer = (*program, one)
        if (found := simulated(longer, words)) is None:
            assert shifted(longer, words) is None, one
            continue
        program, gave = longer, gave | gives(one)
        assert found is not None
    return program


def cut(chance: random.Random, found: Instruction) -> list[Instruction]:
    """The same burst as two or more, at random."""
    if found.count == 1 or chance.random() < 0.3:
        return [found]
    first = chance.randint(1, found.count - 1)
    cycles = first * found.stride
    rest = replace(found, at=found.at + cycles, count=found.count - first)
    if isinstance(rest, Read | Write):
        rest = replace(rest, address=rest.address + first * rest.step)
    if isinstance(rest, Switch):
        rest = replace(rest, result_at=rest.result_at + cycles)
    return [replace(found, count=first), *cut(chance, rest)]


@pytest.mark.parametrize("seed", range(12))
def test_phases_say_what_registers_do(seed: int) -> None:
    chance = random.Random(seed)
    words = random_words(seed, WORDS, len(SLICES))
    program = accepted(chance, words)
    wanted = shifted(program, words)
    found = simulated(program, words)
    assert wanted is not None
    assert found is not None
    assert np.array_equal(found, wanted)
    pieces = [piece for one in program for piece in cut(chance, one)]
    chance.shuffle(pieces)
    again = simulated(tuple(pieces), words)
    assert again is not None
    assert np.array_equal(again, wanted)
