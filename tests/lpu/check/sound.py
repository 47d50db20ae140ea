"""A sound schedule of two chips, and ways to break it.

Chip 0 loads weights in the west, multiplies four vectors, rescales the sums, keeps them in the
east and sends them to chip 1, which rectifies them, turns them around and keeps them in the west.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from atoll.lpu.check.conflicts import Conflict
from atoll.lpu.check.programs import check_routine
from atoll.lpu.machine import shipped_chips
from atoll.lpu.program import (
    Alu,
    Flow,
    Instruction,
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
from atoll.lpu.timing import Timing, shipped_assumed

TIMING = Timing(shipped_chips().find("Groq TSP"), shipped_assumed())
WEIGHTS = Flow("west", "out", 0, 16)
INPUTS = Flow("west", "out", 16, 1)
SUMS = Flow("west", "in", 0, 4)
SENT = Flow("east", "out", 0, 1)
GOT = Flow("east", "in", 0, 1)
TURNED = Flow("west", "out", 3, 1)
BACK = Flow("west", "in", 5, 1)
EVERY: dict[str, Any] = {"count": 4, "stride": 24}

FIRST: dict[str, Instruction] = {
    "weights": Read(at=0, count=20, flow=WEIGHTS, slices=tuple(range(16)), address=0),
    "load": Load(at=0, count=20, flow=WEIGHTS, plane=0, number="int8"),
    "inputs": Read(at=21, **EVERY, flow=INPUTS, slices=(16,), address=50),
    "multiply": Multiply(
        at=21, **EVERY, flow=INPUTS, plane=0, number="int8", row=8, result=SUMS, result_at=107
    ),
    "rescale": Vector(
        at=107,
        **EVERY,
        operands=(Operand(SUMS, "int32"),),
        steps=(Alu("f32", (0,)), Alu("mul", (1, 0.5), 1), Alu("int8", (2,), 2)),
        results=(Result(3, SENT, "int8"),),
    ),
    "keep": Write(at=113, **EVERY, flow=SENT, slices=(3,), address=100),
    "send": Send(at=113, **EVERY, flow=SENT, to=1),
}
SECOND: dict[str, Instruction] = {
    "receive": Receive(at=761, **EVERY, flow=GOT, source=0),
    "rectify": Vector(
        at=761,
        **EVERY,
        operands=(Operand(GOT, "int8"),),
        steps=(Alu("relu", (0,)),),
        results=(Result(1, TURNED, "int8"),),
    ),
    "turn": Switch(at=763, **EVERY, flow=TURNED, result=BACK, result_at=809, shift=0),
    "store": Write(at=809, **EVERY, flow=BACK, slices=(7,), address=0, local=True),
}
CYCLES = 890


def routine(
    *, without: Sequence[str] = (), extra: Sequence[Instruction] = (), **changes: dict[str, Any]
) -> Routine:
    """The schedule with fields of instructions changed, some left out, or others on chip 0."""
    chips = []
    for named in (FIRST, SECOND):
        code = {name: i for name, i in named.items() if name not in without}
        chips.append([replace(i, **changes.get(name, {})) for name, i in code.items()])
    assert not changes.keys() - FIRST.keys() - SECOND.keys()
    chips[0] += extra
    return Routine("sound", tuple(map(tuple, chips)), CYCLES)


def program() -> Program:
    """The schedule run on chips 2 and 0 of three, and then on 0 and 1."""
    return Program(3, (routine(),), (Step(0, (2, 0), 0), Step(0, (0, 1), CYCLES, base=64)))


def conflicts(**changes: Any) -> list[Conflict]:
    """Of the changed schedule."""
    return check_routine(routine(**changes), TIMING)


def kinds(**changes: Any) -> set[str]:
    """Of conflicts of the changed schedule."""
    return {conflict.kind for conflict in conflicts(**changes)}
