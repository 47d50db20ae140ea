"""What several chips do together begins in one phase, and its bytes cross one after the other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from atoll.domain.errors import BadRequest
from atoll.lpu.check.programs import check, check_routine
from atoll.lpu.compiler.chain import Tensor
from atoll.lpu.compiler.spread.links import Arrival, Fabric, ended
from atoll.lpu.machine import shipped_chips
from atoll.lpu.program import Block, Number, Program, Read, Receive, Send, Step, Write
from atoll.lpu.simulator.simulator import Simulator
from atoll.lpu.timing import Timing, shipped_assumed

TIMING = Timing(shipped_chips().find("Groq TSP"), shipped_assumed())


def tensor(number: Number, group: int, count: int, *, side: str = "west") -> Tensor:
    width = {"int8": 1, "f16": 2, "f32": 4}[number]
    slices = tuple(range(4 * group, 4 * group + width))
    return Tensor(number, "west" if side == "west" else "east", slices, 5, count)


def test_bytes_of_a_vector_follow_each_other_on_a_link() -> None:
    fabric = Fabric(TIMING, 2)
    source, target = tensor("f16", 1, 3), tensor("f16", 2, 3, side="east")
    begin = fabric.send(0, source, [Arrival(1, target, stream=2)], count=3)
    routine = fabric.routine("one")
    sends = [i for i in routine.chips[0] if isinstance(i, Send)]
    got = [i for i in routine.chips[1] if isinstance(i, Receive)]
    one = TIMING.link_cycles
    assert [i.at for i in sends] == [begin, begin + one]
    assert all((i.count, i.stride) == (3, 2 * one) for i in [*sends, *got])
    assert [i.at for i in got] == [TIMING.received(i.at) for i in sends]
    assert {(i.flow.side, i.flow.first) for i in got} == {("east", 2)}
    assert fabric.link_cycles_used == 3 * 2 * one
    assert check_routine(routine, TIMING) == []


def test_a_hop_is_as_long_as_published() -> None:
    """From the cycle of the read to the cycle from which the slice farthest from the edge has it;
    the phase also counts the way of the read."""
    fabric = Fabric(TIMING, 2)
    source = Tensor("int8", "west", (43,), 0, 1)
    target = Tensor("int8", "west", (0,), 0, 1)
    fabric.send(0, source, [Arrival(1, target)])
    (read,) = [i for i in fabric.instructions[0] if isinstance(i, Read)]
    assert target.there == [read.at + TIMING.chip.hop_cycles() - TIMING.slice_positions[0]]


def test_what_wants_the_same_link_comes_one_after_the_other() -> None:
    fabric = Fabric(TIMING, 2)
    source = tensor("f16", 1, 2)
    begins = [
        fabric.send(0, source, [Arrival(1, tensor("f16", group, 2))], count=2)
        for group in (2, 3, 4)
    ]
    assert begins == [0, 4 * TIMING.link_cycles, 8 * TIMING.link_cycles]


def test_several_get_the_same_at_once_when_all_have_room() -> None:
    fabric = Fabric(TIMING, 4)
    source = tensor("int8", 1, 1)
    # Chip 3 gets something else first, on the stream of the same place.
    fabric.send(1, source, [Arrival(3, tensor("int8", 3, 1))])
    begin = fabric.send(0, source, [Arrival(chip, tensor("int8", 2, 1)) for chip in (1, 2, 3)])
    assert begin == 1
    routine = fabric.routine("three")
    assert check_routine(routine, TIMING) == []
    assert sum(isinstance(i, Write) for on in routine.chips for i in on) == 4


def test_what_is_sent_has_been_written() -> None:
    """On through a chip: the second hop begins when the first has come."""
    fabric = Fabric(TIMING, 3)
    first, second, third = (tensor("f16", group, 2) for group in (1, 2, 3))
    fabric.send(0, first, [Arrival(1, second)], count=2)
    fabric.send(1, second, [Arrival(2, third)], count=2)
    blocks = (Block(0, first.side, first.slices, first.address, 2, "x"),)
    program = Program(3, (fabric.routine("two hops"),), (Step(0, (0, 1, 2), 0),), blocks)
    assert check(program, TIMING) == []
    words = np.random.default_rng(1).integers(0, 256, (2, 2, TIMING.lanes)).astype(np.uint8)
    simulator = Simulator(program, TIMING, lambda _: words)
    simulator.run()
    assert (simulator.peek(2, third.side, third.slices, third.address, 2) == words).all()
    assert program.cycles < 2 * TIMING.chip.hop_cycles() + 4 * TIMING.link_cycles


def test_more_terms_than_the_vector_unit_adds() -> None:
    fabric = Fabric(TIMING, 1)
    terms = [(tensor("f32", 0, 1), 0)] * (TIMING.alus + 2)
    with pytest.raises(BadRequest, match="18 terms, and 16 ALUs"):
        fabric.add(0, terms, tensor("f32", 1, 1))


def test_a_routine_is_not_over_before_its_last_word_is_there() -> None:
    fabric = Fabric(TIMING, 2)
    target = tensor("f16", 0, 1)
    fabric.send(0, tensor("f16", 1, 1), [Arrival(1, target)])
    routine = fabric.routine("one")
    assert routine.cycles == max(target.there)
    # A routine that ends as soon as its last instruction has acted is still sound.
    shorter = replace(routine, cycles=routine.cycles - (TIMING.assumed.memory_cycles - 1))
    assert check_routine(shorter, TIMING) == []
    too_short = replace(routine, cycles=shorter.cycles - 1)
    assert [c.kind for c in check_routine(too_short, TIMING)] == ["window"]
    assert max(ended(i, TIMING) for i in routine.chips[1]) == routine.cycles
