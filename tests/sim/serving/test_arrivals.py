"""Requests made up."""

from __future__ import annotations

import statistics
from itertools import pairwise

import pytest

from atoll.domain.errors import BadRequest
from atoll.sim.serving.arrivals import Arrivals, arrive


def test_rate_and_lengths_are_as_told() -> None:
    found = list(arrive(Arrivals(5.0, 2000.0, 400, 100, spread=0.8), 1))
    assert len(found) == pytest.approx(10_000, rel=0.03)
    assert statistics.mean(r.prompt for r in found) == pytest.approx(400, rel=0.05)
    assert statistics.mean(r.answer for r in found) == pytest.approx(100, rel=0.05)
    assert all(a.at_s <= b.at_s for a, b in pairwise(found))
    assert found[-1].at_s <= 2000


@pytest.mark.parametrize("burstiness", [0.5, 1.0, 3.0])
def test_bursts(burstiness: float) -> None:
    found = list(arrive(Arrivals(10.0, 2000.0, 5, 5, burstiness=burstiness), 2))
    gaps = [b.at_s - a.at_s for a, b in pairwise(found)]
    assert statistics.stdev(gaps) / statistics.mean(gaps) == pytest.approx(burstiness, rel=0.1)


def test_a_seed_is_a_trace() -> None:
    told = Arrivals(5.0, 100.0, 400, 100, spread=0.5)
    assert list(arrive(told, 7)) == list(arrive(told, 7)) != list(arrive(told, 8))
    assert {r.prompt for r in arrive(Arrivals(5.0, 100.0, 400, 100), 7)} == {400}


@pytest.mark.parametrize(
    ("rate", "seconds", "prompt", "spread", "problem"),
    [
        (0.0, 10.0, 5, 0.0, "at a rate"),
        (1.0, float("inf"), 5, 0.0, "at a rate"),
        (1e6, 1e6, 5, 0.0, "more than"),
        (1.0, 10.0, 0, 0.0, "tokens"),
        (1.0, 10.0, 5, 9.0, "spread"),
    ],
)
def test_what_cannot_be_is_refused(
    rate: float, seconds: float, prompt: float, spread: float, problem: str
) -> None:
    with pytest.raises(BadRequest, match=problem):
        Arrivals(rate, seconds, prompt, 10, spread)
