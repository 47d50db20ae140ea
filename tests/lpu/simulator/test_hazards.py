"""Words that are read and written: by time, whatever the order of the list."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from tests.support.lpu_programs import Bytes, flow, random_words, simulate, tsp

from atoll.domain.errors import BadRequest
from atoll.lpu.program import (
    Instruction,
    Operand,
    Program,
    Read,
    Result,
    Routine,
    Step,
    Switch,
    Vector,
    Write,
)
from atoll.lpu.simulator.hazards import FIXED, Access, compare, order_accesses, wrong
from atoll.lpu.simulator.simulator import Simulator
from atoll.lpu.simulator.units import unit_of

IN, OUT = flow("west", "in", 0), flow("west", "out", 0)
POSITION = 3
"""Of slice 8."""


def access(**what: int) -> Access:
    shape = {"cycle": 0, "stride": 1, "address": 0, "step": 1, "count": 1, **what}
    return Access(unit=0, number=0, writes=True, kind=FIXED, **shape)


def test_pairs_are_compared_word_by_word() -> None:
    chance = random.Random(1)
    seen = set()
    for _ in range(3000):
        one, other = (
            access(
                cycle=chance.randint(0, 9),
                stride=chance.randint(1, 3),
                address=chance.randint(0, 6),
                step=chance.randint(-2, 2),
                count=chance.randint(1, 6),
            )
            for _ in range(2)
        )
        ahead = [
            other.cycle + m * other.stride - one.cycle - n * one.stride
            for n in range(one.count)
            for m in range(other.count)
            if one.address + n * one.step == other.address + m * other.step
        ]
        wanted = any(a > 0 for a in ahead), any(a < 0 for a in ahead), 0 in ahead
        assert compare(one, other) == wanted, (one, other)
        seen.add(wanted)
    assert len(seen) == 8


def through(at: int, count: int) -> Vector:
    operands = (Operand(IN, "int8"),)
    return Vector(
        at=at, count=count, operands=operands, steps=(), results=(Result(0, OUT, "int8"),)
    )


def test_a_burst_reads_what_its_own_words_became() -> None:
    # A word is written 6 cycles after it was read, 10 words on: so the 10 first go on and on.
    count = 64
    read = Read(at=50, count=count, flow=IN, slices=(8,), address=0)
    write = Write(at=50, count=count, flow=OUT, slices=(8,), address=10)
    words = random_words(1, 100)
    for program in ((read, through(50, count), write), (write, through(50, count), read)):
        chip = simulate(*program)
        chip.poke(0, "west", (8,), 0, words)
        chip.run()
        found = chip.peek(0, "west", (8,), 0, 74)
        assert np.array_equal(found, words[np.arange(74) % 10])


def test_a_burst_that_is_too_early_reads_what_was_there() -> None:
    read = Read(at=50, count=64, flow=IN, slices=(8,), address=0)
    write = Write(at=50, count=64, flow=OUT, slices=(8,), address=2 * POSITION - 1)
    words = random_words(1, 100)
    chip = simulate(write, through(50, 64), read)
    chip.poke(0, "west", (8,), 0, words)
    chip.run()
    found = chip.peek(0, "west", (8,), 2 * POSITION - 1, 64)
    assert np.array_equal(found, words[:64])


def test_a_word_that_is_read_and_written_in_one_cycle() -> None:
    read = Read(at=50, count=64, flow=IN, slices=(8,), address=0)
    write = Write(at=50, count=64, flow=OUT, slices=(8,), address=2 * POSITION)
    with pytest.raises(BadRequest, match=r"slice 8 of the west: Write .* have a word of it in one"):
        simulate(read, through(50, 64), write)


def test_a_read_of_many_slices_may_be_before_one_write_and_after_another() -> None:
    # Slice 0 is at position 1, slice 43 at 11; the switch turns vectors back from 12.
    streams, back = flow("west", "out", 4, 2), flow("west", "in", 8, 2)
    due = tsp().switched(30)
    reads: list[Instruction] = [
        Read(at=30, flow=streams, slices=(5, 6), address=0),
        Switch(at=30, flow=streams, result=back, result_at=due, shift=0),
        Write(at=due, flow=back, slices=(0, 43), address=0),
    ]
    # Writes are in cycles due - 1 and due - 11.
    at = due - 12
    late = flow("west", "out", 12, 2)
    over = tsp().switched(at)
    reads += [
        Read(at=at, flow=late, slices=(0, 43), address=0),
        Switch(at=at, flow=late, result=back, result_at=over, shift=0),
        Write(at=over, flow=back, slices=(20, 21), address=0),
    ]
    new, old = random_words(1, 1, 2), random_words(2, 1, 2)
    chip = simulate(*reversed(reads))
    chip.poke(0, "west", (5, 6), 0, new)
    chip.poke(0, "west", (0, 43), 0, old)
    chip.run()
    found = chip.peek(0, "west", (20, 21), 0, 1)
    assert np.array_equal(found[:, 0], old[:, 0])
    assert np.array_equal(found[:, 1], new[:, 1])


@pytest.mark.parametrize("index", [0, 4, 10, 63])
@pytest.mark.parametrize("base", [0, 3])
def test_addresses_of_a_run_decide(index: int, base: int) -> None:
    read = Read(at=50, count=64, flow=IN, slices=(8,), address=0, local=True)
    write = Write(at=50, count=64, flow=OUT, slices=(8,), address=7, index="k")
    routine = Routine("feedback", ((write, through(50, 64), read),), 200)
    words = random_words(3, 200)
    chips = Simulator(Program(1, (routine,), (Step(0, (0,), 0, base),)), tsp())
    chips.poke(0, "west", (8,), 0, words)
    if 7 + index - base == 2 * POSITION:
        with pytest.raises(BadRequest, match="in one cycle"):
            chips.run({"k": index})
        return
    chips.run({"k": index})
    wanted = words.copy()
    passed: list[Bytes] = []
    for cycle in range(64 + 2 * POSITION):
        if cycle >= 2 * POSITION:
            n = cycle - 2 * POSITION
            wanted[7 + index + n] = passed[n]
        if cycle < 64:
            passed.append(wanted[base + cycle].copy())
    assert np.array_equal(chips.peek(0, "west", (8,), 0, 200), wanted)


def test_only_what_may_meet_is_doubtful() -> None:
    read = Read(at=50, count=64, flow=IN, slices=(8,), address=500, local=True)
    write = Write(at=50, count=64, flow=OUT, slices=(8,), address=7)
    units = {0: unit_of(0, read), 1: unit_of(0, write)}
    apart = order_accesses(units, tsp(), range(1000))
    assert (apart.edges, apart.doubtful) == (frozenset(), ())
    assert len(order_accesses(units, tsp(), range(-500, 1)).doubtful) == 1
    for at, edge in ((200, (0, 1)), (-50, (1, 0))):
        units[1] = unit_of(0, replace(write, at=at, index="k"))
        by_time = order_accesses(units, tsp(), range(1))
        assert (by_time.edges, by_time.doubtful) == (frozenset({edge}), ())


def test_an_order_is_wrong_only_where_words_are_had_the_other_way_round() -> None:
    one = access(cycle=10, address=0, count=20)
    other = replace(access(cycle=20, address=0, count=20), unit=1)

    def found(more: int, *rank: int) -> bool:
        return wrong([(one, other)], lambda a: more if a.unit else 0, rank)

    # Word n in cycles 10 + n and 20 + n - more: at once, if that is 10.
    assert not found(0, 0, 1)
    assert found(0, 1, 0)
    assert found(10, 0, 1)
    assert found(10, 1, 0)
    assert not found(15, 1, 0)
    assert found(15, 0, 1)
    assert not found(20, 0, 1)
    assert not found(20, 1, 0)
