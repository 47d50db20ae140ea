"""Figures of products over chips: what they are computed of, on a small task."""

from __future__ import annotations

import math
import statistics

import pytest
from bench.lpu.products import PAPER, Task, error, matmuls, reduced

SHAPE = (160, 40 * 320, 960)
SMALL = Task(SHAPE, nodes=1, published_us={2: 9.0, 3: 8.0, 4: 2.0}, throughput=(4, 3.0))


def test_products() -> None:
    found = matmuls(SMALL)
    took = found["matmul_us"]
    assert list(took) == [2, 3, 4]
    assert took[2] > took[4] > found["matmul_peak_us"][4]
    # Two pairs of planes a chip, 160 x 320 products a cycle each, at 900 MHz.
    peak = math.prod(SHAPE) / (2 * 160 * 320) / 900
    assert found["matmul_peak_us"][2] == pytest.approx(peak / 2, rel=0.001)
    errors = found["error_matmul_by_chips"]
    assert errors[3] == round(abs(took[3] / 8 - 1), 4)
    assert found["error_matmul"] == statistics.median(errors.values())
    assert found["error_matmul_by_throughput"] == error(took[4], 3)
    assert found["matmul_conflicts"] == 0
    assert min(found["matmul_compile_s"].values()) > 0


def test_all_reduce() -> None:
    found = reduced(2)
    assert found["all_reduce_chips"] == 16
    # Three hops, sums and the second byte.
    assert 2.166 < found["all_reduce_us"] < 2.5
    assert found["error_all_reduce"] == round(found["all_reduce_us"] / 2.166 - 1, 4)
    assert found["all_reduce_conflicts"] == 0


def test_the_two_published_figures_contradict_each_other() -> None:
    chips, by_throughput = PAPER.throughput
    assert PAPER.published_us[chips] / by_throughput == pytest.approx(3.65, abs=0.01)
    assert error(1.5, 1.0) == error(0.5, 1.0) == 0.5
