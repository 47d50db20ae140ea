"""A ring without chance in it."""

from __future__ import annotations

from atoll.sim.timed_ring import Steady


def test_delays_are_the_mean() -> None:
    assert Steady(1).expovariate(4.0) == 0.25
    assert Steady(1).expovariate() == 1.0
