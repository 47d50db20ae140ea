"""Whole programs: what is in memory afterwards, by steps, bases, indices and order of time."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.lpu_programs import (
    as_numbers,
    as_words,
    flow,
    many_chips,
    one_chip,
    random_words,
    simulate,
    tsp,
)

from atoll.domain.errors import BadRequest
from atoll.lpu.program import (
    Alu,
    Block,
    Load,
    Multiply,
    Operand,
    Program,
    Read,
    Receive,
    Result,
    Routine,
    Send,
    Step,
    Switch,
    Vector,
    Write,
)
from atoll.lpu.simulator.simulator import Simulator

IN, OUT = flow("west", "in", 3), flow("west", "out", 5)


def copying(at: int, count: int, *, to: int = 100, stride: int = 1) -> tuple[Read, Vector, Write]:
    """From slice 7 through the middle, unchanged, to slice 20 of the west."""
    same = (Operand(IN, "int8"),), (), (Result(0, OUT, "int8"),)
    return (
        Read(at=at, count=count, stride=stride, flow=IN, slices=(7,), address=0),
        Vector(at=at, count=count, stride=stride, operands=same[0], steps=same[1], results=same[2]),
        Write(at=at, count=count, stride=stride, flow=OUT, slices=(20,), address=to),
    )


def test_words_go_through_the_middle() -> None:
    words = random_words(1, 9)
    for stride in (1, 3):
        chip = simulate(*copying(40, 9, stride=stride))
        chip.poke(0, "west", (7,), 0, words)
        chip.run()
        assert np.array_equal(chip.peek(0, "west", (20,), 100, 9), words)


def test_a_program_runs_again_on_what_it_left() -> None:
    back = Read(at=400, flow=IN, slices=(20,), address=100)
    through = Vector(
        at=400,
        operands=(Operand(IN, "int8"),),
        steps=(Alu("add", (0, 0)), Alu("int8", (1,))),
        results=(Result(2, OUT, "int8"),),
    )
    later = 400 + 2 * tsp().assumed.alu_cycles
    write = Write(at=later, flow=OUT, slices=(20,), address=100)
    chip = simulate(back, through, write)
    chip.poke(0, "west", (20,), 100, np.full((1, 1, 320), 3, np.uint8))
    chip.run()
    chip.run()
    assert (chip.peek(0, "west", (20,), 100, 1) == 12).all()


def test_int8_products_are_exact() -> None:
    rng = np.random.default_rng(2)
    weights = rng.integers(-128, 128, (2, 320, 320), np.int8)
    x = rng.integers(-128, 128, (2, 5, 320), np.int8)
    loads, ends = flow("east", "out", 0, 16), flow("east", "in", 8, 4)
    due = tsp().multiplied(170)
    chip = simulate(
        Read(at=100, count=20, flow=loads, slices=tuple(range(16)), address=0),
        Load(at=100, count=20, flow=loads, plane=1, number="int8"),
        Read(at=120, count=5, flow=flow("east", "out", 20), slices=(30,), address=0),
        Multiply(at=120, count=5, flow=flow("east", "out", 20), plane=1, number="int8", row=7),
        Read(at=140, count=20, flow=loads, slices=tuple(range(16)), address=20),
        Load(at=140, count=20, flow=loads, plane=1, number="int8"),
        Read(at=170, count=5, flow=flow("east", "out", 20), slices=(30,), address=5),
        Multiply(
            at=170,
            count=5,
            flow=flow("east", "out", 20),
            plane=1,
            number="int8",
            row=7,
            clear=False,
            result=ends,
            result_at=due,
        ),
        Write(at=due, count=5, flow=ends, slices=(33, 34, 35, 36), address=50),
    )
    chip.poke(0, "east", tuple(range(16)), 0, weights.reshape(40, 16, 320).view(np.uint8))
    chip.poke(0, "east", (30,), 0, x.reshape(10, 1, 320).view(np.uint8))
    chip.run()
    wanted = sum(x[i].astype(np.int64) @ weights[i].astype(np.int64).T for i in (0, 1))
    found = as_numbers(chip.peek(0, "east", (33, 34, 35, 36), 50, 5), "<i4")
    assert np.array_equal(found, wanted)


def test_int8_weights_are_widened_on_their_way_and_multiplied_as_halves() -> None:
    rng = np.random.default_rng(3)
    weights = rng.integers(-128, 128, (160, 320), np.int8)
    x = rng.standard_normal((2, 320)).astype(np.float16)
    narrow, wide = flow("west", "in", 0, 16), flow("west", "out", 0, 32)
    ends, at = flow("west", "in", 20, 4), 100 + tsp().assumed.alu_cycles
    due = tsp().multiplied(130)
    chip = simulate(
        Read(at=100, count=10, flow=narrow, slices=tuple(range(0, 32, 2)), address=8),
        Vector(
            at=100,
            count=10,
            operands=tuple(Operand(narrow.part(i, 1), "int8") for i in range(16)),
            steps=tuple(Alu("f16", (i,), i) for i in range(16)),
            results=tuple(Result(16 + i, wide.part(2 * i, 2), "f16") for i in range(16)),
        ),
        Load(at=at, count=10, flow=wide, plane=0, number="f16"),
        Read(at=130, count=2, stride=2, flow=flow("west", "out", 9, 2), slices=(40, 41), address=0),
        Multiply(
            at=130,
            count=2,
            stride=2,
            flow=flow("west", "out", 9, 2),
            plane=0,
            number="f16",
            result=ends,
            result_at=due,
        ),
        Write(at=due, count=2, stride=2, flow=ends, slices=(33, 34, 35, 36), address=50),
    )
    chip.poke(0, "west", tuple(range(0, 32, 2)), 8, weights.reshape(10, 16, 320).view(np.uint8))
    chip.poke(0, "west", (40, 41), 0, as_words(x))
    chip.run()
    found = as_numbers(chip.peek(0, "west", (33, 34, 35, 36), 50, 2), "<f4")
    wanted = x.astype(float) @ weights.astype(float).T
    assert np.abs(found[:, :160] - wanted).max() < 1e-5 * np.abs(wanted).max()
    assert not found[:, 160:].any()


def test_the_switch_turns_lanes_back() -> None:
    out, back = flow("east", "out", 1, 2), flow("east", "in", 6, 2)
    due = tsp().switched(60)
    chip = simulate(
        Read(at=60, count=3, flow=out, slices=(0, 1), address=0),
        Switch(at=60, count=3, flow=out, result=back, result_at=due, shift=100),
        Write(at=due, count=3, flow=back, slices=(8, 4), address=0),
    )
    words = random_words(4, 3, 2)
    chip.poke(0, "east", (0, 1), 0, words)
    chip.run()
    found = chip.peek(0, "east", (8, 4), 0, 3)
    assert np.array_equal(found[..., 0], words[..., 100])
    assert np.array_equal(found[..., 319], words[..., 99])


def test_vectors_go_to_another_chip() -> None:
    out, back = flow("west", "out", 0), flow("east", "in", 0)
    due = tsp().received(60)
    chips = many_chips(
        (
            Read(at=60, count=4, stride=25, flow=out, slices=(0,), address=0),
            Send(at=60, count=4, stride=25, flow=out, to=1),
        ),
        (
            Receive(at=due, count=4, stride=25, flow=back, source=0),
            Write(at=due, count=4, stride=25, flow=back, slices=(2,), address=10),
        ),
    )
    words = random_words(5, 4)
    chips.poke(0, "west", (0,), 0, words)
    chips.run()
    assert np.array_equal(chips.peek(1, "east", (2,), 10, 4), words)


def test_what_is_sent_must_be_received_when_it_comes() -> None:
    out, back = flow("west", "out", 0), flow("east", "in", 0)
    sends = (Read(at=60, flow=out, slices=(0,), address=0), Send(at=60, flow=out, to=1))
    with pytest.raises(BadRequest, match="arrive at phases 708 and are received at none"):
        many_chips(sends, ())
    with pytest.raises(BadRequest, match="arrive at phases 708 and are received at 709"):
        many_chips(sends, (Receive(at=709, flow=back, source=0),))
    due = tsp().received(60)
    both = (
        Receive(at=due, flow=back, source=0),
        Receive(at=due, flow=flow("east", "in", 1), source=0, lane=1),
    )
    with pytest.raises(BadRequest, match=r"link 1 from chip 0 to chip 1: .* at phases none"):
        many_chips(sends, both)


def test_local_addresses_begin_at_the_steps_base() -> None:
    _, through, write = copying(40, 2)
    local = Routine(
        "layer",
        ((Read(at=40, count=2, flow=IN, slices=(7,), address=0, local=True), through, write),),
        200,
    )
    back = Routine(
        "back",
        (
            (
                Read(at=40, count=2, flow=IN, slices=(20,), address=100),
                through,
                Write(at=40, count=2, flow=OUT, slices=(21,), address=0, local=True),
            ),
        ),
        200,
    )
    steps = (
        Step(1, (0,), 900, base=50),
        Step(0, (0,), 400, base=30),
        Step(0, (0,), 0, base=10),
        Step(1, (0,), 200, base=40),
    )
    chip = Simulator(Program(1, (local, back), steps), tsp())
    words = random_words(6, 60)
    chip.poke(0, "west", (7,), 0, words)
    chip.run()
    assert np.array_equal(chip.peek(0, "west", (21,), 40, 2), words[10:12])
    assert np.array_equal(chip.peek(0, "west", (21,), 50, 2), words[30:32])


def test_indices_are_added_to_addresses() -> None:
    three, streams = (4, 9, 12), flow("west", "in", 3, 3)
    out = flow("west", "out", 0, 3)
    ints = tuple(Operand(streams.part(i, 1), "int8") for i in range(3))
    chip = simulate(
        Read(at=40, count=2, flow=streams, slices=three, address=10, index="token"),
        Vector(
            at=40,
            count=2,
            operands=ints,
            steps=(),
            results=tuple(Result(i, out.part(i, 1), "int8") for i in range(3)),
        ),
        Write(at=40, count=2, flow=out, slices=(20, 21, 22), address=0, index="position"),
    )
    words = random_words(7, 100, 3)
    chip.poke(0, "west", three, 0, words)
    chip.run({"token": 5, "position": 0})
    chip.run({"token": (7, 8, -10), "position": 2})
    found = chip.peek(0, "west", (20, 21, 22), 0, 4)
    assert np.array_equal(found[:2], words[15:17])
    for i, first in enumerate((17, 18, 0)):
        assert np.array_equal(found[2:, i], words[first : first + 2, i])
    with pytest.raises(BadRequest, match="no index 'position'"):
        chip.run({"token": 5})
    with pytest.raises(BadRequest, match="2 integers for 3 slices"):
        chip.run({"token": (5, 5), "position": 0})
    with pytest.raises(BadRequest, match="chip 0: slice 9 in the west has 8192 words, and no 8192"):
        chip.run({"token": (5, 8181, 0), "position": 0})


def test_blocks_lie_in_memory_before() -> None:
    words = {"a": random_words(8, 3, 2), "b": random_words(9, 1, 1)}
    blocks = (Block(1, "east", (3, 5), 7, 3, "a"), Block(0, "west", (0,), 0, 1, "b"))
    chips = Simulator(Program(2, (), (), blocks), tsp(), words.__getitem__)
    assert np.array_equal(chips.peek(1, "east", (3, 5), 7, 3), words["a"])
    with pytest.raises(BadRequest, match="nothing gives the words of a"):
        Simulator(Program(2, (), (), blocks), tsp())
    wrong = {**words, "a": words["a"][:2]}
    with pytest.raises(BadRequest, match="a: 2 words and not 3"):
        Simulator(Program(2, (), (), blocks), tsp(), wrong.__getitem__)


def test_a_chip_runs_one_step_at_a_time() -> None:
    routine = Routine("short", ((),), 100)
    with pytest.raises(BadRequest, match="chip 1 is not free before cycle 100"):
        Simulator(Program(2, (routine,), (Step(0, (1,), 0), Step(0, (1,), 99))), tsp())
    with pytest.raises(BadRequest, match="no chip 2 of 2"):
        Simulator(Program(2, (routine,), (Step(0, (2,), 0),)), tsp())
    with pytest.raises(BadRequest, match="for 1"):
        Simulator(Program(2, (routine,), (Step(0, (0, 1), 0),)), tsp())


def test_errors_name_the_routine() -> None:
    program = one_chip(Write(at=40, flow=OUT, slices=(20,), address=0))
    with pytest.raises(BadRequest, match=r"one: Write on chip 0 .* at phase 40"):
        Simulator(program, tsp())
