"""Weights from buffers into planes, and sums that must have been begun."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.support.lpu_programs import flow, tsp

from atoll.domain.errors import BadRequest
from atoll.lpu.program import Load, Multiply
from atoll.lpu.simulator.planes import crossed, follow_weights
from atoll.lpu.simulator.units import unit_of

LOAD = Load(at=10, count=20, flow=flow("west", "out", 0, 16), plane=0, number="int8")
ONE = Multiply(at=30, count=4, flow=flow("west", "out", 20), plane=0, number="int8")
HALVES = Load(at=10, count=20, flow=flow("west", "out", 0, 32), plane=0, number="f16")
HALF = Multiply(at=30, count=2, stride=2, flow=flow("west", "out", 20, 2), plane=0, number="f16")


def follow(*found: Load | Multiply) -> tuple[dict[int, int], dict[int, list[int]]]:
    units = {i: unit_of(0, one) for i, one in enumerate(found)}
    products = follow_weights(units, tsp())
    return products.weights, products.before


def test_each_product_has_the_weights_installed_last() -> None:
    again = replace(LOAD, at=30)
    more = replace(ONE, at=40, install=False)
    later = replace(ONE, at=50)
    # The buffer is free for new weights in the cycle in which the old ones go into the plane.
    weights, before = follow(later, more, again, ONE, LOAD)
    assert weights == {3: 4, 1: 4, 0: 2}
    assert before == {1: [3], 0: [1]}


def test_planes_and_sides_are_apart() -> None:
    other = replace(LOAD, plane=1), replace(ONE, plane=1)
    east = flow("east", "out", 0, 16), flow("east", "out", 20)
    there = replace(LOAD, flow=east[0]), replace(ONE, flow=east[1])
    weights, before = follow(LOAD, ONE, *other, *there)
    assert weights == {1: 0, 3: 2, 5: 4}
    assert before == {}


def test_halves_take_both_planes() -> None:
    bytes_after = replace(LOAD, at=40, plane=1), replace(ONE, at=60, plane=1)
    weights, before = follow(HALVES, HALF, *bytes_after)
    assert weights == {1: 0, 3: 2}
    assert before == {3: [1]}
    with pytest.raises(BadRequest, match=r"the plane has weights of int8: Load .* at phase 40"):
        follow(HALVES, HALF, *bytes_after, replace(HALF, at=80, install=False))


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        ((ONE,), "nothing was loaded"),
        ((LOAD, ONE, replace(ONE, at=40)), "Multiply .* at phase 40 .* nothing was loaded"),
        ((LOAD, replace(ONE, at=29)), "can be installed from phase 30 on"),
        ((replace(LOAD, at=15), ONE), "can be installed from phase 35 on"),
        ((LOAD,), "Load .* at phase 10 .* never installed"),
        ((LOAD, replace(LOAD, at=35), replace(ONE, at=60)), "at phase 10 .* never installed"),
        ((LOAD, ONE, replace(LOAD, at=35)), "at phase 35 .* never installed"),
        ((LOAD, replace(ONE, plane=1)), "nothing was loaded"),
        ((LOAD, replace(ONE, install=False)), "the plane has no weights"),
        ((LOAD, HALF), "nothing was loaded"),
        ((LOAD, replace(LOAD, plane=1), HALF), "the plane has weights of int8"),
        ((HALVES, ONE), "the plane has weights of f16"),
        ((LOAD, replace(ONE, clear=False)), "no sum of int8 was begun in accumulator 0"),
        (
            (LOAD, ONE, replace(ONE, at=40, install=False, row=1, clear=False)),
            "no sum of int8 was begun in accumulator 4",
        ),
        (
            (LOAD, ONE, replace(ONE, at=33, install=False)),
            "comes to the plane at the same time",
        ),
    ],
)
def test_what_planes_cannot_do(found: tuple[Load | Multiply, ...], problem: str) -> None:
    with pytest.raises(BadRequest, match=problem):
        follow(*found)


def test_sums_of_one_format_do_not_go_on_in_another() -> None:
    halves = replace(HALVES, at=50), replace(HALF, at=70, clear=False)
    with pytest.raises(BadRequest, match="no sum of f16 was begun in accumulator 0"):
        follow(LOAD, ONE, *halves)


def test_products_that_come_between_each_others_vectors() -> None:
    slow = replace(ONE, stride=3)
    found = [slow, replace(ONE, at=31, stride=3), replace(ONE, at=60), replace(ONE, plane=1)]
    units = {i: unit_of(0, one) for i, one in enumerate(found)}
    assert crossed(units) == {0, 1}
