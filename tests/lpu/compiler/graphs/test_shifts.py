"""Parts of vectors, and vectors behind each other, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.lpu_graphs import run
from tests.support.lpu_small import timing_of

from atoll.lpu.compiler.graphs.graph import Held, Node

TIMING = timing_of()
NUMBERS = np.arange(1, 2001, dtype=np.float32)


@pytest.mark.parametrize(
    ("width", "first", "count"),
    [(5, 1, 3), (320, 0, 320), (700, 0, 5), (700, 320, 320), (700, 319, 2), (1000, 1, 999)],
)
@pytest.mark.parametrize("number", ["f16", "f32"])
def test_a_slice(width: int, first: int, count: int, number: Held) -> None:
    x = Node(name="x", op="input", width=width, number=number)
    y = Node(name="y", op="slice", inputs=("x",), first=first, width=count, number=number)
    # Where it ends nothing is left of what lies behind: a sum over all lanes shows it.
    z = Node(name="z", op="softmax", inputs=("y",), number="f32")
    values = NUMBERS[:width]
    assert np.array_equal(run(TIMING, (x, y), {"x": values}), values[first : first + count])
    assert run(TIMING, (x, y, z), {"x": values}).sum() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("widths", [(1, 1), (319, 1), (320, 320), (5, 700), (700, 600), (640, 7)])
def test_one_behind_the_other(widths: tuple[int, int]) -> None:
    x = Node(name="x", op="input", width=widths[0], number="f32")
    y = Node(name="y", op="input", width=widths[1])
    z = Node(name="z", op="concat", inputs=("x", "y"), number="f32")
    given = {"x": NUMBERS[: widths[0]], "y": -NUMBERS[: widths[1]]}
    due = np.concatenate([given["x"], given["y"]])
    assert np.array_equal(run(TIMING, (x, y, z), given), due)


def test_a_value_behind_itself() -> None:
    x = Node(name="x", op="input", width=330)
    y = Node(name="y", op="concat", inputs=("x", "x"))
    values = NUMBERS[:330]
    assert np.array_equal(run(TIMING, (x, y), {"x": values}), np.concatenate([values, values]))
