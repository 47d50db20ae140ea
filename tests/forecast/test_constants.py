"""Constants by path: what is known of the narrowest level counts with all above it."""

from __future__ import annotations

import math

import pytest

from atoll.forecast.constants import Constant, Constants, shipped_fit

RATE = Constant("rate", 2.0, (0.1, 0.2, 0.3), "a guess")


def test_levels_multiply() -> None:
    constants = Constants({"rate": math.log(3), "rate/a": math.log(5), "rate/a/b": math.log(7)})
    assert constants.of(RATE) == pytest.approx(6.0)
    assert constants.of(RATE, "a") == pytest.approx(30.0)
    assert constants.of(RATE, "a", "b") == pytest.approx(210.0)
    # Of what nobody measured the wider level is known.
    assert constants.of(RATE, "a", "z") == pytest.approx(30.0)
    assert constants.of(RATE, "z", "b") == pytest.approx(6.0)


def test_a_path_ends_at_what_is_empty() -> None:
    seen: dict[str, float] = {}
    Constants(seen=seen).of(RATE, "", "b")
    Constants(seen=seen).of(RATE, "a", "b", "deeper than the constant is")
    assert seen == {"rate": 0.1, "rate/a": 0.2, "rate/a/b": 0.3}


def test_what_is_carried() -> None:
    fitted = shipped_fit()
    assert len(fitted.factors) > 50
    assert all(math.isfinite(factor) for factor in fitted.factors.values())
    for key in ("local", "wide", "lpu", "throughput", "serving_tpot", "serving_ttft", "power"):
        errors = fitted.errors[key]
        assert 0 < errors.median <= errors.p90
        assert errors.n >= 2
