"""What the chip cannot do is refused, and bursts are divided into the vectors they are."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.support.lpu_programs import flow, tsp

from atoll.domain.errors import BadRequest
from atoll.lpu.program import (
    Alu,
    Instruction,
    Load,
    Multiply,
    Operand,
    Read,
    Receive,
    Result,
    Send,
    Switch,
    Vector,
    Write,
)
from atoll.lpu.simulator.units import check, unit_of, vectors

IN, OUT = flow("west", "in", 0), flow("west", "out", 0)
DUE = tsp().multiplied(50)
READ = Read(at=50, count=3, stride=2, flow=flow("west", "in", 4, 2), slices=(7, 3), address=5)
WRITE = Write(at=50, flow=OUT, slices=(43,), address=0)
LOAD = Load(at=50, count=20, flow=flow("east", "out", 0, 16), plane=1, number="int8")
MULTIPLY = Multiply(
    at=50,
    count=3,
    flow=OUT,
    plane=1,
    number="int8",
    row=253,
    result=flow("west", "in", 4, 4),
    result_at=DUE,
)
SWITCH = Switch(at=50, flow=OUT, result=IN, result_at=tsp().switched(50), shift=1)
VECTOR = Vector(
    at=50,
    operands=(Operand(flow("west", "in", 0, 2), "f16"),),
    steps=(Alu("exp", (0,)),),
    results=(Result(1, flow("east", "out", 0, 4), "f32"),),
)
GOOD = (
    READ,
    WRITE,
    LOAD,
    MULTIPLY,
    SWITCH,
    VECTOR,
    Send(at=50, flow=OUT, to=1),
    Receive(at=50, flow=IN, source=1),
)


def checked(found: Instruction, cycles: int = 400) -> None:
    check(unit_of(0, found), tsp(), 2, cycles)


@pytest.mark.parametrize("found", GOOD, ids=lambda found: type(found).__name__)
def test_what_the_chip_can_do(found: Instruction) -> None:
    checked(found)


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (replace(READ, count=0), "a burst of 0"),
        (replace(READ, stride=0), "one every 0 cycles"),
        (replace(READ, slices=(7,)), "west in, streams 4 to 5: 1 are wanted"),
        (replace(READ, slices=(7, 7)), "a slice serves one stream"),
        (replace(READ, slices=(7, 44)), "no slice 44"),
        (replace(READ, flow=flow("west", "in", 31, 2)), "no such streams: west in, streams 31"),
        (replace(READ, at=1), "acts in cycles -1 to 3"),
        (replace(WRITE, at=389), "acts in cycles 400 to 400, and the routine has 400"),
        (replace(LOAD, plane=2), "no plane 2 of a side for int8"),
        (replace(LOAD, number="f16"), "no plane 1 of a side for f16"),
        (replace(LOAD, number="f32"), "multiply int8 and f16, and not f32"),
        (replace(LOAD, count=21), "more than the 320 columns"),
        (replace(LOAD, flow=flow("east", "in", 0, 16)), "that flow out are wanted, not east in"),
        (
            replace(LOAD, plane=0, number="f16", flow=flow("east", "out", 0, 15)),
            "numbers of 2 bytes on east out, streams 0 to 14",
        ),
        (replace(MULTIPLY, row=254), "accumulators 254 to 256 of 256"),
        (replace(MULTIPLY, result_at=DUE + 1), f"is there at phase {DUE}, and not at {DUE + 1}"),
        (replace(MULTIPLY, result=flow("east", "in", 4, 4)), "cannot leave in the east"),
        (replace(MULTIPLY, result=flow("west", "in", 4, 2)), "4 are wanted"),
        (replace(MULTIPLY, flow=flow("west", "out", 0, 2)), "1 are wanted"),
        (replace(SWITCH, result_at=99), "and not at 99"),
        (replace(SWITCH, result=flow("east", "in", 0)), "cannot leave in the east"),
        (replace(SWITCH, result=OUT), "that flow in are wanted"),
        (replace(VECTOR, operands=(Operand(IN, "f16"),)), "2 are wanted"),
        (replace(VECTOR, results=(Result(0, OUT, "int8"),)), "value 0 is f16, not int8"),
        (replace(VECTOR, results=(Result(2, OUT, "int8"),)), "there is no value 2"),
        (replace(VECTOR, results=(Result(1, OUT, "f32"),)), "4 are wanted"),
        (Send(at=50, flow=flow("west", "out", 0, 2), to=1), "1 are wanted"),
        (Send(at=50, flow=OUT, to=0), "no link to chip 0"),
        (Receive(at=50, flow=IN, source=2), "no link to chip 2 of a routine of 2"),
    ],
)
def test_what_it_cannot(found: Instruction, problem: str) -> None:
    with pytest.raises(BadRequest, match=problem):
        checked(found)


def test_a_burst_is_divided_by_vector_and_slice() -> None:
    found = list(vectors(unit_of(1, replace(READ, step=4, index="k"))))
    assert [(u.first, u.slices, u.chip) for u in found] == [(0, 2, 1), (1, 2, 1)] * 3
    parts = [u.instruction for u in found]
    wanted = replace(READ, at=52, count=1, flow=flow("west", "in", 5), slices=(3,), address=9)
    assert parts[3] == replace(wanted, step=4, index="k")
    assert all(u.whole for u in found)


def test_weights_are_installed_with_the_first_vector() -> None:
    found = [u.instruction for u in vectors(unit_of(0, replace(MULTIPLY, stride=2)))]
    assert found[0] == replace(MULTIPLY, count=1, stride=2)
    wanted = replace(MULTIPLY, at=54, count=1, stride=2, row=255, install=False)
    assert found[2] == replace(wanted, result_at=DUE + 4)


@pytest.mark.parametrize("found", [WRITE, LOAD, VECTOR], ids=lambda found: type(found).__name__)
def test_what_is_whole_stays(found: Instruction) -> None:
    assert list(vectors(unit_of(0, found))) == [unit_of(0, found)]
