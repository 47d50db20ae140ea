"""Arithmetic of runs: sums that wrap, constants, words written again and again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from tests.support.lpu_programs import as_numbers, as_words, flow, random_words, simulate, tsp

from atoll.lpu.program import (
    Alu,
    Instruction,
    Load,
    Multiply,
    Operand,
    Read,
    Result,
    Vector,
    Write,
)

LOADS, ACTS = flow("west", "out", 0, 32), flow("west", "out", 0, 2)
ENDS = flow("west", "in", 0, 4)
IN, OUT = flow("east", "in", 0, 4), flow("east", "out", 0, 4)


def halves(at: int, tile: int, *, last: bool) -> list[Instruction]:
    """A tile of halves and its product with 3 vectors, added to those before."""
    due = tsp().multiplied(at + 20)
    found: list[Instruction] = [
        Read(at=at, count=20, flow=LOADS, slices=tuple(range(32)), address=20 * tile),
        Load(at=at, count=20, flow=LOADS, plane=0, number="f16"),
        Read(at=at + 20, count=3, stride=2, flow=ACTS, slices=(40, 41), address=3 * tile),
        Multiply(
            at=at + 20,
            count=3,
            stride=2,
            flow=ACTS,
            plane=0,
            number="f16",
            clear=tile == 0,
            result=ENDS if last else None,
            result_at=due,
        ),
    ]
    if last:
        found.append(
            Write(at=due, count=3, stride=2, flow=ENDS, slices=(36, 37, 38, 39), address=0)
        )
    return found


def test_products_of_halves_are_added_in_single_precision() -> None:
    rng = np.random.default_rng(1)
    weights = rng.standard_normal((4, 320, 320)).astype(np.float16)
    x = rng.standard_normal((4, 3, 320)).astype(np.float16)
    tiles = [halves(50 + 30 * tile, tile, last=tile == 3) for tile in range(4)]
    chip = simulate(*(found for tile in reversed(tiles) for found in tile))
    # Sixteen columns beside each other, two bytes of each.
    words = as_words(weights.reshape(4 * 320, 320)).reshape(80, 32, 320)
    chip.poke(0, "west", tuple(range(32)), 0, words)
    chip.poke(0, "west", (40, 41), 0, as_words(x.reshape(12, 320)))
    chip.run()
    found = as_numbers(chip.peek(0, "west", (36, 37, 38, 39), 0, 3), "<f4")
    exact = sum(x[t].astype(float) @ weights[t].astype(float).T for t in range(4))
    assert np.abs(found - exact).max() < 2e-6 * 4 * 320
    assert np.abs(found - exact).max() < np.abs(found - exact.astype(np.float16)).max()


def test_sums_of_a_product_are_those_of_that_time() -> None:
    # The first product's sums go out, and are not changed by what is added later.
    words = np.zeros((40, 32, 320), np.uint8)
    weights = np.full((320, 320), 1.0, np.float16)
    words[:20] = as_words(weights).reshape(20, 32, 320)
    words[20:] = words[:20]
    first, second = halves(50, 0, last=True), halves(90, 1, last=True)
    second[-1] = Write(
        at=tsp().multiplied(110), count=3, stride=2, flow=ENDS, slices=(30, 31, 32, 33), address=90
    )
    chip = simulate(*first, *second)
    chip.poke(0, "west", tuple(range(32)), 0, words)
    chip.poke(0, "west", (40, 41), 0, as_words(np.ones((6, 320), np.float16)))
    chip.run()
    assert (as_numbers(chip.peek(0, "west", (36, 37, 38, 39), 0, 3), "<f4") == 320).all()
    assert (as_numbers(chip.peek(0, "west", (30, 31, 32, 33), 90, 3), "<f4") == 640).all()


def test_sums_are_added_in_the_order_of_time_whatever_bursts_wait_for() -> None:
    # The first product's vector is of a long burst, which waits for a word that is written
    # when the second product is long over.
    weights, late = flow("west", "out", 0, 16), flow("west", "out", 25)
    long, short = flow("west", "out", 20), flow("west", "out", 21)
    first = Multiply(at=120, flow=long, plane=0, number="int8")
    due = tsp().multiplied(122)
    chip = simulate(
        Read(at=100, count=20, flow=weights, slices=tuple(range(16)), address=0),
        Load(at=100, count=20, flow=weights, plane=0, number="int8"),
        Read(at=120, count=60, flow=long, slices=(30,), address=0),
        Read(at=150, flow=late, slices=(2,), address=100),
        Write(at=150, flow=late, slices=(30,), address=59),
        first,
        Read(at=122, flow=short, slices=(31,), address=0),
        replace(
            first,
            at=122,
            flow=short,
            install=False,
            clear=False,
            result=ENDS,
            result_at=due,
        ),
        Write(at=due, flow=ENDS, slices=(36, 37, 38, 39), address=0),
    )
    chip.poke(0, "west", tuple(range(16)), 0, np.ones((20, 16, 320), np.uint8))
    chip.poke(0, "west", (30,), 0, np.full((60, 1, 320), 3, np.uint8))
    chip.poke(0, "west", (31,), 0, np.full((1, 1, 320), 2, np.uint8))
    chip.run()
    assert (as_numbers(chip.peek(0, "west", (36, 37, 38, 39), 0, 1), "<i4") == 320 * 5).all()


def chained(*steps: Alu) -> NDArray[np.float32]:
    """What steps make of a vector of float32 from -4 to 4, which is value 0."""
    x = np.linspace(-4, 4, 320, dtype=np.float32)[None]
    vector = Vector(
        at=50,
        operands=(Operand(IN, "f32"),),
        steps=steps,
        results=(Result(len(steps), OUT, "f32"),),
    )
    left = tsp().left(vector, len(steps))
    chip = simulate(
        Read(at=50, flow=IN, slices=(0, 1, 2, 3), address=0),
        vector,
        Write(at=left, flow=OUT, slices=(4, 5, 6, 7), address=0),
    )
    chip.poke(0, "east", (0, 1, 2, 3), 0, as_words(x))
    chip.run()
    found: NDArray[np.float32] = as_numbers(chip.peek(0, "east", (4, 5, 6, 7), 0, 1), "<f4")
    return found.reshape(320)


def test_steps_follow_each_other() -> None:
    x = np.linspace(-4, 4, 320, dtype=np.float32)
    # x / (1 + exp(-x)), by the hyperbolic tangent.
    found = chained(
        Alu("mul", (0, 0.5)), Alu("tanh", (1,)), Alu("add", (2, 1.0)), Alu("mul", (1, 3))
    )
    np.testing.assert_allclose(found, x / (1 + np.exp(-x)), rtol=1e-4, atol=1e-6)
    root = chained(Alu("mul", (0, 0)), Alu("rsqrt", (1,)))
    np.testing.assert_allclose(root, 1 / np.abs(x), rtol=1e-6)
    assert (chained(Alu("add", (1.5, 2.0))) == 3.5).all()
    assert np.isinf(chained(Alu("mul", (0, 1e38)), Alu("mul", (1, 1e38))))[[0, -1]].all()
    half = chained(Alu("f16", (0,)), Alu("f32", (1,)))
    assert np.array_equal(half, x.astype(np.float16))
    whole = chained(Alu("int8", (0,)), Alu("f32", (1,)))
    assert np.array_equal(whole, np.rint(x))


def test_of_words_written_to_one_address_the_last_stays() -> None:
    streams = flow("east", "in", 0)
    words = random_words(1, 4)
    chip = simulate(
        Read(at=50, count=4, flow=streams, slices=(30,), address=3, step=-1),
        Write(at=50, count=4, flow=streams, slices=(2,), address=9, step=0),
    )
    chip.poke(0, "east", (30,), 0, words)
    chip.run()
    assert np.array_equal(chip.peek(0, "east", (2,), 9, 1)[0], words[0])
    assert not chip.peek(0, "east", (2,), 10, 1).any()
