"""Instructions that are wrong by themselves, one field at a time."""

from __future__ import annotations

from typing import Any

import pytest
from tests.lpu.check.sound import FIRST, SECOND, TIMING, conflicts, kinds

from atoll.lpu.check.form import malformed
from atoll.lpu.program import Alu, Flow, Operand, Result

WIDE = Flow("west", "out", 16, 2)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("weights", {"count": 0}),
        ("weights", {"stride": 0}),
        ("weights", {"slices": tuple(range(15))}),
        ("weights", {"slices": (44, *range(15))}),
        ("weights", {"slices": (-1, *range(15))}),
        ("weights", {"flow": Flow("west", "out", 17, 16)}),
        ("weights", {"flow": Flow("west", "out", -1, 16)}),
        ("weights", {"flow": Flow("north", "out", 0, 16)}),  # type: ignore[arg-type]
        ("load", {"flow": Flow("west", "in", 0, 16)}),
        ("load", {"plane": 2}),
        ("load", {"plane": -1}),
        ("load", {"number": "int32"}),
        ("load", {"number": "f16", "plane": 1}),
        ("load", {"number": "f16", "flow": Flow("west", "out", 0, 15)}),
        ("load", {"count": 21}),
        ("load", {"column": 1}),
        ("load", {"column": -1}),
        ("multiply", {"number": "f16"}),
        ("multiply", {"flow": WIDE}),
        ("multiply", {"plane": 2}),
        ("multiply", {"row": 253}),
        ("multiply", {"row": -1}),
        ("multiply", {"result": Flow("west", "in", 0, 2)}),
        ("multiply", {"result": Flow("east", "in", 0, 4)}),
        ("multiply", {"result": Flow("west", "out", 0, 4)}),
        ("rescale", {"operands": (Operand(Flow("west", "in", 0, 4), "f16"),)}),
        ("rescale", {"operands": (Operand(Flow("west", "out", 0, 4), "int32"),)}),
        ("rescale", {"results": (Result(3, Flow("east", "in", 0, 1), "int8"),)}),
        ("rescale", {"results": (Result(3, Flow("east", "out", 0, 1), "f16"),)}),
        ("rescale", {"results": (Result(4, Flow("east", "out", 0, 1), "int8"),)}),
        ("rescale", {"steps": (Alu("f32", (0,), 16), Alu("mul", (1, 2.0)), Alu("int8", (2,)))}),
        ("rescale", {"steps": (Alu("f32", (1,)), Alu("mul", (1, 2.0)), Alu("int8", (2,)))}),
        ("rescale", {"steps": (Alu("f32", (0,)), Alu("mul", (1,)), Alu("int8", (2,)))}),
        ("send", {"to": 2}),
        ("send", {"to": -1}),
        ("send", {"lane": -1}),
        ("send", {"flow": Flow("east", "out", 0, 2)}),
        ("send", {"flow": Flow("east", "in", 0, 1)}),
        ("receive", {"source": 2}),
        ("receive", {"flow": Flow("east", "out", 0, 1)}),
        ("turn", {"flow": Flow("west", "in", 3, 1)}),
        ("turn", {"result": Flow("west", "out", 5, 1)}),
        ("turn", {"result": Flow("east", "in", 5, 1)}),
        ("turn", {"result": Flow("west", "in", 5, 2)}),
    ],
)
def test_no_such_instruction(name: str, change: dict[str, Any]) -> None:
    assert "form" in kinds(**{name: change})


@pytest.mark.parametrize(
    ("name", "change", "due"),
    [("multiply", {"result_at": 106}, 107), ("turn", {"result_at": 810}, 809)],
)
def test_results_that_are_not_there_then(name: str, change: dict[str, Any], due: int) -> None:
    [conflict] = [c for c in conflicts(**{name: change}) if c.kind == "timing"]
    assert conflict.what == f"the result has phase {due}, and not {next(iter(change.values()))}"


def test_values_that_nothing_uses() -> None:
    steps = (*FIRST["rescale"].steps, Alu("add", (3, 1.0), 3))  # type: ignore[union-attr]
    [conflict] = conflicts(rescale={"steps": steps})
    assert (conflict.kind, conflict.what) == ("lost", "nothing uses value 4")


def test_vectors_that_follow_too_soon_on_a_plane_or_a_link() -> None:
    assert "link" in kinds(send={"stride": 23})
    half = {"number": "f16", "flow": Flow("west", "out", 16, 2)}
    assert "matrix" in kinds(multiply={**half, "stride": 1})
    assert "matrix" not in {found.kind for found in malformed(0, FIRST["multiply"], TIMING, 2)}


def test_sound_instructions_are_well_formed() -> None:
    for instruction in (*FIRST.values(), *SECOND.values()):
        assert list(malformed(0, instruction, TIMING, 2)) == []
