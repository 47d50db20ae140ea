"""Planes: loads, installs, products and accumulators."""

from __future__ import annotations

from typing import Any

import pytest
from tests.lpu.check.sound import TIMING, kinds

from atoll.lpu.check.matrix import matrix_conflicts
from atoll.lpu.program import Flow, Instruction, Load, Multiply

WEIGHTS = Flow("west", "out", 0, 16)
RESULT = Flow("west", "in", 0, 4)
READY = 20
"""First phase in which weights that were loaded from phase 0 on can be installed."""


def load(at: int = 0, **fields: Any) -> Load:
    return Load(**{"at": at, "count": 20, "flow": WEIGHTS, "plane": 0, "number": "int8", **fields})


def multiply(at: int = READY, **fields: Any) -> Multiply:
    number = fields.get("number", "int8")
    flow = Flow("west", "out", 16, 2 if number == "f16" else 1)
    own = {"at": at, "flow": flow, "plane": 0, "number": number, "result": RESULT, **fields}
    return Multiply(**own)


def found(*code: Instruction) -> list[tuple[str, str, tuple[int, ...]]]:
    return [(c.kind, c.what, c.who) for c in matrix_conflicts(code, TIMING)]


def said(*code: Instruction) -> list[tuple[str, tuple[int, ...]]]:
    return [(kind, who) for kind, _, who in found(*code)]


def test_weights_are_there_before_they_are_installed() -> None:
    assert found(load(), multiply()) == []
    assert said(load(), multiply(READY - 1)) == [("matrix", (0, 1))]
    assert said(multiply(READY, install=True)) == [("missing", (0,))]
    assert said(multiply(install=False)) == [("missing", (0,))]
    assert said(load(), multiply(), multiply(30)) == [("missing", (2,))]
    assert said(load(), multiply(), multiply(30, install=False)) == []
    assert kinds(multiply={"at": 19, "result_at": 105}, inputs={"at": 19}, rescale={"at": 105},
                 keep={"at": 111}, send={"at": 111}, receive={"at": 759}, rectify={"at": 759},
                 turn={"at": 761, "result_at": 807}, store={"at": 807}) == {"matrix"}  # fmt: skip


def test_the_buffer_is_free_when_it_is_installed() -> None:
    assert found(load(), load(READY), multiply(), multiply(2 * READY)) == []
    [(kind, what, who)] = found(load(count=19), load(READY - 1), multiply(2 * READY))
    assert (kind, who) == ("matrix", (0, 1))
    assert "again" in what


def test_parts_of_the_columns_are_loaded_apart() -> None:
    parts = load(count=4), load(5, count=4, column=64), load(9, count=4, column=128)
    assert said(*parts, multiply(13)) == []
    assert said(*parts, multiply(12)) == [("matrix", (2, 3))]
    assert said(*parts[:2], load(9, count=4, column=127), multiply(13)) == [("matrix", (1, 2))]
    assert said(*parts[:2], multiply(9), parts[2]) == [("lost", (3,))]
    assert said(*parts[:2], multiply(9), load(9), multiply(29)) == []
    halves: dict[str, Any] = {"number": "f16", "count": 4}
    pair = load(**halves), load(5, **halves, column=32)
    assert said(*pair, multiply(30, number="f16")) == []
    assert said(*pair, load(9, **halves, column=63), multiply(30, number="f16")) == [
        ("matrix", (1, 2))
    ]
    assert said(pair[0], load(5, column=64, count=4), multiply(30, number="f16")) != []


def test_weights_that_nobody_installs() -> None:
    assert said(load(), multiply(), load(50)) == [("lost", (2,))]


def test_one_load_and_one_product_of_a_plane_at_a_time() -> None:
    assert ("matrix", "two loads at once", (0, 1)) in found(load(), load(19), multiply(60))
    products = (multiply(30, count=4, stride=2), multiply(36, install=False))
    assert said(load(), *products) == [("matrix", (1, 2))]
    assert said(load(), products[0], multiply(37, install=False)) == []
    other = load(0, plane=1), multiply(30, plane=1)
    assert said(load(), multiply(30), *other) == []
    east = Flow("east", "out", 0, 16)
    assert said(load(), multiply(30), load(flow=east), multiply(30, flow=east)) == []


def test_halves_take_both_planes() -> None:
    pair = load(number="f16"), multiply(30, number="f16", count=3, stride=2)
    assert said(*pair) == []
    assert said(*pair, multiply(35, number="f16", install=False)) == [("matrix", (1, 2))]
    assert said(*pair, multiply(36, number="f16", install=False)) == []
    for plane in (0, 1):
        assert ("matrix", (0, 2)) in said(*pair, load(20, plane=plane), multiply(80, plane=plane))
        assert said(*pair, multiply(60, plane=plane, install=False)) == [("matrix", (0, 2))]


def test_weights_and_vectors_are_of_one_format() -> None:
    assert ("matrix", (0, 1)) in said(load(number="f16"), multiply(30))
    assert ("matrix", (0, 1)) in said(load(), multiply(30, number="f16"))


def test_sums_begin_before_something_is_added() -> None:
    more = {"install": False, "clear": False}
    assert said(load(), multiply(row=3, count=2), multiply(60, row=4, **more)) == []
    for row in (2, 5):
        second = multiply(60, row=row, **more)
        assert said(load(), multiply(row=3, count=2), second) == [("missing", (2,))]
    assert said(load(), multiply(60), multiply(30, **more, row=0)) != []
    plane = load(plane=1), multiply(60, plane=1, clear=False)
    assert said(load(), multiply(), *plane) == [("missing", (3,))]
    assert kinds(multiply={"clear": False}) == {"missing"}


def test_sums_are_of_one_format() -> None:
    halves = {"number": "f16", "clear": False}
    code = load(), multiply(), load(30, number="f16"), multiply(70, **halves)
    [first, *_] = [who for _, what, who in found(*code) if "another format" in what]
    assert first == (1, 3)


def test_sums_that_nobody_sees() -> None:
    hidden = multiply(result=None)
    assert said(load(), hidden) == [("lost", (1,))]
    assert said(load(), hidden, multiply(60, install=False)) == [("lost", (1, 2))]
    assert said(load(), hidden, multiply(60, install=False, clear=False)) == []
    part = multiply(60, install=False, clear=False, row=1)
    assert said(load(), multiply(result=None, count=2), part) == [("lost", (1,))]


@pytest.mark.parametrize("row", [0, 252])
def test_accumulators_of_a_schedule(row: int) -> None:
    assert kinds(multiply={"row": row}) == set()
