"""ALUs, switches, and the cycles in which instructions are active."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.lpu.check.sound import CYCLES, FIRST, SECOND, TIMING

from atoll.lpu.check.units import active, switch_conflicts, vector_conflicts, window_conflicts
from atoll.lpu.program import Alu, Flow, Multiply, Operand, Read, Receive, Result, Switch, Vector

IN = Flow("west", "in", 0, 4)
OUT = Flow("west", "out", 0, 4)


def vector(at: int, *alus: int, **fields: Any) -> Vector:
    steps = tuple(Alu("relu", (n,), alu) for n, alu in enumerate(alus))
    result = Result(len(alus), OUT, "f32")
    return Vector(at=at, operands=(Operand(IN, "f32"),), steps=steps, results=(result,), **fields)


def switch(at: int, side: Any = "west", width: int = 4, **fields: Any) -> Switch:
    flow, result = Flow(side, "out", 0, width), Flow(side, "in", 0, width)
    return Switch(at=at, flow=flow, result=result, result_at=TIMING.switched(at), shift=0, **fields)


def clashes(*code: Vector) -> list[tuple[int, tuple[int, ...]]]:
    return [(c.cycle, c.who) for c in vector_conflicts(code, TIMING)]


def test_an_alu_has_one_operation_a_cycle() -> None:
    assert clashes(vector(5, 0), vector(5, 1)) == clashes(vector(5, 0), vector(6, 0)) == []
    assert clashes(vector(5, 0), vector(5, 0)) == [(5, (0, 1))]
    assert clashes(vector(0, 0, count=9, stride=3), vector(4, 0, count=9, stride=4)) == [
        (12, (0, 1))
    ]


def test_steps_come_one_behind_the_other() -> None:
    delay = TIMING.assumed.alu_cycles
    assert clashes(vector(0, 3, 4), vector(delay, 4)) == [(delay, (0, 1))]
    assert clashes(vector(0, 3, 4), vector(0, 4)) == []
    assert clashes(vector(0, 3, 3)) == []
    assert clashes(vector(0, 3, 3, count=delay + 1)) == [(delay, (0, 0))]


def test_a_switch_turns_one_group_a_cycle() -> None:
    def found(*code: Switch) -> list[tuple[str, tuple[int, ...]]]:
        return [(c.resource, c.who) for c in switch_conflicts(code, TIMING)]

    assert found(switch(3), switch(3, width=1)) == [("switch in the west", (0, 1))]
    assert found(switch(3, count=4, stride=2), switch(4, count=4, stride=2)) == []
    assert found(switch(3), switch(3, "east")) == []
    assert list(switch_conflicts((), TIMING)) == []


def test_when_instructions_are_active() -> None:
    edge, switch_at = TIMING.edge, TIMING.switch_position
    slices = (0, 43)
    flow = Flow("west", "in", 0, 2)
    read = Read(at=20, count=3, stride=2, flow=flow, slices=slices, address=0)
    assert active(read, TIMING) == (20 - 11, 24 - 1)
    read = Read(at=20, count=3, stride=2, flow=Flow("west", "out", 0, 2), slices=slices, address=0)
    assert active(read, TIMING) == (20 + 1, 24 + 11)
    assert active(FIRST["load"], TIMING) == (edge, 19 + edge)
    assert active(FIRST["multiply"], TIMING) == (21 + edge, 107 + 72 - edge)
    assert active(FIRST["rescale"], TIMING) == (107, 113 + 72)
    assert active(FIRST["send"], TIMING) == (113 + edge, 113 + 72 + edge + TIMING.link_cycles - 1)
    assert active(SECOND["receive"], TIMING) == (761 - edge, 761 + 72 - edge)
    assert active(SECOND["turn"], TIMING) == (763 + switch_at, 809 + 72 - switch_at)
    halves = Multiply(at=5, count=2, stride=4, flow=OUT, plane=0, number="f16")
    assert active(halves, TIMING) == (5 + edge, 9 + edge + 1)


@pytest.mark.parametrize(
    ("instruction", "first", "last"),
    [
        (Read(at=11, flow=Flow("west", "in", 0, 1), slices=(43,), address=0), 0, 0),
        (Read(at=-1, flow=Flow("west", "out", 0, 1), slices=(0,), address=0), 0, 0),
        (Receive(at=13, flow=Flow("west", "in", 0, 1), source=0), 0, 0),
        (SECOND["store"], 809 - 2, 809 + 72 - 2),
    ],
)
def test_the_window_is_of_true_cycles(instruction: Any, first: int, last: int) -> None:
    assert active(instruction, TIMING) == (first, last)
    assert list(window_conflicts((instruction,), TIMING, last + 1)) == []
    assert [c.kind for c in window_conflicts((instruction,), TIMING, last)] == ["window"]
    early = replace(instruction, at=instruction.at - first - 1)
    assert [c.cycle for c in window_conflicts((early,), TIMING, CYCLES)] == [-1]
