"""Products over many chips: right, free of conflicts, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from atoll.domain.errors import BadRequest
from atoll.lpu.check.programs import check
from atoll.lpu.compiler.spread.product import Product, product
from atoll.lpu.compiler.spread.product_words import product_result, product_words
from atoll.lpu.machine import shipped_chips
from atoll.lpu.program import Number
from atoll.lpu.simulator.simulator import Simulator
from atoll.lpu.timing import Timing, shipped_assumed
from atoll.lpu.topology import build, shipped_systems

Array = NDArray[Any]
TIMING = Timing(shipped_chips().find("Groq TSP"), shipped_assumed())
SYSTEMS = shipped_systems()
NODE = build(SYSTEMS.find("GroqNode"))
TWO = build(SYSTEMS.find("Dragonfly of 264"), nodes=2)
DRAGONFLY = build(SYSTEMS.find("Dragonfly of 264"), nodes=13)


@pytest.mark.parametrize(
    ("shape", "chips", "number"),
    [
        ((3, 320, 8), 1, "f16"),
        ((3, 330, 1000), 1, "int8"),
        # Three tiles for each: shares begin and end within column tiles, of which one is whole.
        ((90, 900, 1000), 4, "f16"),
        ((170, 700, 700), 2, "int8"),
        # One column tile over five chips.
        ((7, 5 * 320, 16), 5, "f16"),
    ],
)
def test_it_is_the_product(shape: tuple[int, int, int], chips: int, number: Number) -> None:
    made = product(TIMING, NODE, shape, number, chips=chips)
    assert (made.split.chips, made.shape) == (chips, shape)
    assert check(made.program, TIMING, NODE) == []
    compare(made, number)


def test_a_column_tile_in_two_nodes() -> None:
    """Three chips that add, of which two are in a node."""
    made = product(TIMING, TWO, (5, 3 * 320, 3 * 320), "int8", chips=9)
    assert [made.line[place] // 8 for place in made.split.groups()[2]] == [0, 0, 1]
    assert check(made.program, TIMING, TWO) == []
    compare(made, "int8")


@pytest.mark.long
@pytest.mark.parametrize("number", ["f16", "int8"])
@pytest.mark.parametrize(
    ("shape", "chips"),
    [((270, 700, 2600), 8), ((31, 900, 3500), 16), ((17, 960, 700), 9), ((9, 12 * 320, 40), 12)],
)
def test_larger_ones(shape: tuple[int, int, int], chips: int, number: Number) -> None:
    made = product(TIMING, DRAGONFLY, shape, number, chips=chips)
    assert check(made.program, TIMING, DRAGONFLY) == []
    compare(made, number)


def compare(made: Product, number: Number) -> None:
    rng = np.random.default_rng(made.shape[0])
    rows, depth, width = made.shape
    x: Array = rng.integers(-128, 128, (rows, depth))
    w: Array = rng.integers(-128, 128, (depth, width))
    if number == "f16":
        x, w = (rng.normal(size=a.shape).astype(np.float16) for a in (x, w))
    words = product_words(made, TIMING, x, w)
    simulator = Simulator(made.program, TIMING, words)
    simulator.run()
    found = product_result(made, simulator.peek)
    if number == "int8":
        assert (found == x @ w).all()
        return
    exact = x.astype(np.float64) @ w.astype(np.float64)
    # Each part's sum is rounded to f16, and so is theirs.
    size = (np.abs(x).astype(np.float64) @ np.abs(w).astype(np.float64)).max()
    assert np.abs(found - exact).max() <= 2.0**-11 * size
    assert np.abs(exact).max() > 2.0**-5 * size


def test_results_tile_the_product() -> None:
    made = product(TIMING, DRAGONFLY, (50, 900, 700), chips=24)
    # No more chips than tiles.
    assert made.split.chips == 9
    seen = np.zeros((50, 700), np.int64)
    for part in made.results:
        rows, columns = part.rows, part.columns
        seen[
            rows.first : rows.first + rows.count, columns.first : columns.first + columns.count
        ] += 1
    assert (seen == 1).all()
    assert {part.chip for part in made.results} == set(made.line)


def test_links_work_while_planes_do() -> None:
    """Chips share column tiles, and end with ones of their own."""
    made = product(TIMING, NODE, (400, 20 * 320, 10 * 320), chips=4)
    assert all(any(made.split.is_whole(run) for run in made.split.runs(n)) for n in range(4))
    least = 50 * 400 * TIMING.row_cycles("f16") / 2
    assert least < made.cycles < 1.04 * least
    assert made.links_used > 0
    assert made.planes_busy > 0.96
    assert made.peak_used == pytest.approx(made.planes_busy, rel=0.01)
    assert check(made.program, TIMING, NODE) == []


def test_chips_that_share_all_that_they_have() -> None:
    """Only sums of the last of eight times come after the last product."""
    made = product(TIMING, NODE, (640, 60 * 320, 2 * 320), chips=4)
    assert [len(block) for block in made.blocks] == [40] * 16
    own = 640 / 8 / 2 * made.split.part(0).count * TIMING.row_cycles("f16")
    hop = TIMING.chip.hop_cycles()
    rest = made.cycles - made.multiplied
    assert hop < rest < hop + 40 * 48 + 200
    assert made.multiplied < 1.1 * 8 * own
    assert check(made.program, TIMING, NODE) == []


@pytest.mark.long
@pytest.mark.parametrize(("chips", "over_peak"), [(8, 1.03), (16, 1.05), (100, 1.3)])
def test_the_published_shape(chips: int, over_peak: float) -> None:
    """800 x 32576 x 8192 (ISCA 2022, figure 14), against the planes' peak."""
    made = product(TIMING, DRAGONFLY, (800, 32576, 8192), chips=chips)
    assert check(made.program, TIMING, DRAGONFLY) == []
    assert 1 < 1 / made.peak_used < over_peak


@pytest.mark.parametrize(
    ("shape", "number", "chips", "problem", "hint"),
    [
        ((0, 320, 320), "f16", 8, "0 rows", ""),
        ((1, 320, 320), "f32", 8, "matrices of f32", "int8 or f16"),
        ((1, 320, 320), "f16", 0, "0 chips", "at least one"),
        ((1, 320, 320), "f16", 105, "105 chips, and Dragonfly of 264 here has 104", ""),
        ((500, 320 * 60, 320 * 60), "f16", 2, "memory of 2 chips", "chips would do"),
        ((800, 10**7, 10**6), "f16", 8, "memory of 8 chips", "smaller matrix"),
    ],
)
def test_what_is_refused(
    shape: tuple[int, int, int], number: Number, chips: int, problem: str, hint: str
) -> None:
    with pytest.raises(BadRequest, match=problem) as refused:
        product(TIMING, DRAGONFLY, shape, number, chips=chips)
    assert hint in (refused.value.hint or "")


def test_racks_are_refused() -> None:
    racks = build(SYSTEMS.find("Dragonfly of racks"), racks=2)
    with pytest.raises(BadRequest, match="2 racks"):
        product(TIMING, racks, (1, 640, 320), chips=16)
