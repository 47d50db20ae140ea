from __future__ import annotations

from dataclasses import replace

import pytest
from bench.prefill import HEEDFUL, HEEDLESS, KINDS, PLANNED, Beside, gaps, rings, told


def test_gaps_that_reach_into_a_time_count() -> None:
    arrivals = [0.0, 1.0, 2.5, 2.7, 4.0]
    assert gaps(arrivals, 1.5, 3.0) == pytest.approx([1.5, 0.2, 0.3])
    assert gaps([0.0, 1.0], 1.5, 5.0) == pytest.approx([4.0])


def test_medians_and_their_ratios() -> None:
    before = [Beside(gap, 0.2, 3.0, 1.0) for gap in (1.0, 2.0, 9.0)]
    after = [Beside(0.5, 0.1, 3.3, 1.0) for _ in range(3)]
    found = told({(PLANNED, HEEDLESS): before, (PLANNED, HEEDFUL): after})
    assert found[f"{PLANNED}, {HEEDLESS}, ms"] == {
        "gap": 2000,
        "gap_median": 200,
        "first": 3000,
        "alone": 1000,
    }
    assert found[f"{PLANNED}, ratios"] == {
        "gap": 0.25,
        "gap_median": 0.5,
        "first": 1.1,
        "alone": 1.0,
    }


def test_two_and_two_differ_in_their_heed_alone() -> None:
    found = rings()
    for kind, _, plan in KINDS:
        heedless, heedful = found[kind, HEEDLESS], found[kind, HEEDFUL]
        assert heedless.plan == plan
        assert replace(heedless, more=()) == heedful
