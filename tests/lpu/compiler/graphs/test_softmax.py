"""Softmax over vectors of any width."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.lpu_graphs import run
from tests.support.lpu_small import timing_of

from atoll.lpu.compiler.graphs.graph import Node
from atoll.lpu.words import Values

TIMING = timing_of()


def softmax(values: Values) -> Values:
    x = Node(name="x", op="input", width=len(values), number="f32")
    y = Node(name="y", op="softmax", inputs=("x",), number="f32")
    return run(TIMING, (x, y), {"x": values})


@pytest.mark.parametrize("width", [1, 320, 321, 1000, 1600, 2500])
def test_shares_of_any_width(width: int) -> None:
    values = np.random.default_rng(width).standard_normal(width).astype(np.float32)
    share = np.exp(values - values.max())
    found = softmax(values)
    assert np.abs(found - share / share.sum()).max() < 1e-3 * found.max()
    assert found.sum() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("at", [0, 319, 320, 699])
def test_the_greatest_is_found_wherever_it_is(at: int) -> None:
    values = np.full(700, 60.0, np.float32)
    values[at] = 200
    found = softmax(values)
    assert found[at] == pytest.approx(1, abs=1e-5)
    assert np.delete(found, at).max() == 0


def test_values_far_below_zero_are_not_less_than_lanes_without_any() -> None:
    values = np.full(330, -30000.0, np.float32)
    values[7] = -29999.0
    found = softmax(values)
    assert found.sum() == pytest.approx(1, abs=1e-3)
    assert found[7] / found[8] == pytest.approx(np.e, rel=2e-3)
