"""Steps and blocks of a program, and that a sound one has no conflicts."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.lpu.check.sound import CYCLES, FIRST, SECOND, TIMING, program, routine

from atoll.lpu.check.conflicts import Conflict
from atoll.lpu.check.programs import check, check_routine
from atoll.lpu.program import Block, Program, Routine, Send, Step
from atoll.lpu.topology import build, shipped_systems

BLOCKS = (
    Block(0, "west", (0, 1), 0, 20, "a"),
    Block(0, "west", (1, 2), 20, 20, "b"),
    Block(0, "east", (0, 1), 10, 20, "c"),
    Block(1, "west", (0, 1), 10, 8182, "d"),
)


def found(changed: Program) -> list[Conflict]:
    return check(changed, TIMING)


def test_a_sound_program_has_no_conflicts() -> None:
    sound = replace(program(), blocks=BLOCKS)
    assert check(sound, TIMING, build(shipped_systems().find("GroqRack"), nodes=1)) == []


@pytest.mark.parametrize(
    "steps",
    [
        (Step(1, (0, 1), 0),),
        (Step(-1, (0, 1), 0),),
        (Step(0, (0,), 0),),
        (Step(0, (1, 1), 0),),
        (Step(0, (0, 3), 0),),
        (Step(0, (0, -1), 0),),
        (Step(0, (0, 1), -1),),
        (Step(0, (0, 1), 0), Step(0, (1, 2), CYCLES - 1)),
        (Step(0, (0, 1), CYCLES - 1), Step(0, (2, 0), 0)),
    ],
)
def test_steps_that_cannot_be(steps: tuple[Step, ...]) -> None:
    assert {c.kind for c in found(replace(program(), steps=steps))} == {"step"}


def test_overlapping_steps_are_both_named() -> None:
    steps = (Step(0, (0, 1), 0), Step(0, (2, 1), 100))
    [conflict] = found(replace(program(), steps=steps))
    assert (conflict.chip, conflict.cycle) == (1, 100)
    assert conflict.instructions == ("step of sound in cycle 0", "step of sound in cycle 100")


@pytest.mark.parametrize(
    "block",
    [
        Block(0, "west", (2, 1), 39, 1, "x"),
        Block(3, "west", (0,), 0, 1, "x"),
        Block(2, "west", (44,), 0, 1, "x"),
        Block(2, "west", (-1,), 0, 1, "x"),
        Block(2, "west", (5, 5), 0, 1, "x"),
        Block(2, "west", (5,), 8192, 1, "x"),
        Block(2, "west", (5,), -1, 1, "x"),
        Block(2, "west", (5,), 0, 0, "x"),
    ],
)
def test_blocks_that_cannot_be(block: Block) -> None:
    assert [c.kind for c in found(replace(program(), blocks=(*BLOCKS, block)))] == ["block"]


def test_a_base_that_carries_local_addresses_out_of_memory() -> None:
    steps = (Step(0, (0, 1), 0, base=8188), Step(0, (0, 1), CYCLES))
    assert found(replace(program(), steps=steps)) == []
    for base in (8189, -1):
        steps = (Step(0, (0, 1), 0, base=base), Step(0, (0, 1), CYCLES))
        [conflict] = found(replace(program(), steps=steps))
        assert (conflict.kind, conflict.chip) == ("address", 1)


def test_links_that_a_topology_lacks() -> None:
    one = build(shipped_systems().find("GroqRack"), nodes=1)
    second = routine(send={"lane": 1}, receive={"lane": 1})
    lanes = replace(program(), routines=(second,))
    assert check(lanes, TIMING) == []
    assert [c.kind for c in check(lanes, TIMING, one)] == ["link", "link"]
    many = replace(program(), chips=9, steps=(Step(0, (0, 8), 0),))
    assert [c.kind for c in check(many, TIMING, one)] == ["step"]


def test_a_routine_is_checked_once_and_its_name_is_told() -> None:
    broken = replace(program(), routines=(routine(without=["store"]),))
    [conflict] = found(broken)
    assert (conflict.routine, conflict.chip, conflict.kind) == ("sound", 1, "lost")
    assert "lost: sound, chip 1" in str(conflict)


@pytest.mark.parametrize("name", [*FIRST, *SECOND])
@pytest.mark.parametrize("cycles", [-1, 1])
def test_whatever_moves_by_a_cycle_is_found(name: str, cycles: int) -> None:
    at = {**FIRST, **SECOND}[name].at
    assert check_routine(routine(**{name: {"at": at + cycles}}), TIMING)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [*FIRST, *SECOND])
@pytest.mark.parametrize("field", ["count", "stride"])
def test_whatever_is_longer_is_found(name: str, field: str) -> None:
    instruction = {**FIRST, **SECOND}[name]
    longer = {name: {field: getattr(instruction, field) + 1}}
    assert check_routine(routine(**longer), TIMING)  # type: ignore[arg-type]


def test_chips_that_do_alike_are_each_told_of() -> None:
    code = routine().chips[0]
    sends = [i for i in code if isinstance(i, Send)]
    others = tuple(replace(i, to=0) if i in sends else i for i in code[1:])
    found = check_routine(Routine("alike", (code[1:], others), CYCLES), TIMING)
    missing = [c for c in found if c.kind == "missing" and c.resource.startswith("stream west")]
    assert [c.chip for c in missing] == [0, 1]
    one, other = (replace(s, lane=0) for s in sends), (replace(s, lane=1) for s in sends)
    for extra, is_busy in ((one, True), (other, False)):
        found = check_routine(Routine("two", ((*code, *extra), code), CYCLES), TIMING)
        assert any(c.kind == "link" for c in found) == is_busy
