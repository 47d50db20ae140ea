from __future__ import annotations

import pytest
from bench.prefill import HEEDFUL, HEEDLESS, Beside, gaps, told


def test_gaps_that_reach_into_a_time_count() -> None:
    arrivals = [0.0, 1.0, 2.5, 2.7, 4.0]
    assert gaps(arrivals, 1.5, 3.0) == pytest.approx([1.5, 0.2, 0.3])
    assert gaps([0.0, 1.0], 1.5, 5.0) == pytest.approx([4.0])


def test_medians_and_their_ratios() -> None:
    before = [Beside(gap, 0.2, 3.0, 1.0) for gap in (1.0, 2.0, 9.0)]
    after = [Beside(0.5, 0.1, 3.3, 1.0) for _ in range(3)]
    found = told({HEEDLESS: before, HEEDFUL: after})
    assert found[HEEDLESS] == {
        "gap_ms": 2000,
        "gap_median_ms": 200,
        "first_ms": 3000,
        "alone_ms": 1000,
    }
    ratios = {key: found[f"{key}_ratio"] for key in ("gap", "gap_median", "first", "alone")}
    assert ratios == {"gap": 0.25, "gap_median": 0.5, "first": 1.1, "alone": 1.0}
