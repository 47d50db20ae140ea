"""What came of a run, in figures."""

from __future__ import annotations

from array import array

import pytest

from atoll.sim.serving.tally import Tally, spread_of


def test_times_of_answers() -> None:
    tally = Tally()
    tally.answered(10.0, 10.5, 12.5, 5)
    tally.answered(11.0, 11.2, 11.2, 1)
    assert list(tally.first_s) == pytest.approx([0.5, 0.2])
    assert list(tally.token_s) == pytest.approx([0.5])
    assert list(tally.whole_s) == pytest.approx([2.5, 0.2])
    assert (tally.done, tally.tokens) == (2, 6)


def test_percentiles() -> None:
    found = spread_of(array("d", range(101)))
    assert found is not None
    assert (found.p50, found.p90, found.p95, found.p99, found.mean) == (50, 90, 95, 99, 50)
    assert spread_of(array("d")) is None
