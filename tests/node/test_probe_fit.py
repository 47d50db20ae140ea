"""Layer times out of two shards' times, however noisy those are."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.domain.measure import PROBE_ROWS
from atoll.node.probe_fit import CallTime, Fit, fit, rising

LAYERS = {1: 2e-4, 4: 5e-4, 16: 1.6e-3, 64: 5.3e-3, 256: 2e-2}
SECONDS = st.floats(0, 100, allow_nan=False)


def calls(layers: int, overhead_s: float = 1e-4) -> list[CallTime]:
    return [CallTime(r, overhead_s + layers * s, layers * s) for r, s in LAYERS.items()]


def check_sound(found: Fit) -> None:
    seconds = [time.seconds for time in found.layer_s]
    assert [time.rows for time in found.layer_s] == list(PROBE_ROWS)
    assert all(math.isfinite(s) and s > 0 for s in seconds)
    assert all(a <= b for a, b in pairwise(seconds))
    assert math.isfinite(found.overhead_s)
    assert found.overhead_s >= 0


def test_what_is_known_comes_out() -> None:
    found = fit(calls(1), 1, calls(3), 3)
    assert [t.seconds for t in found.layer_s] == pytest.approx(list(LAYERS.values()))
    assert found.overhead_s == pytest.approx(1e-4)


def test_one_shard_alone() -> None:
    found = fit(calls(2), 2)
    assert [t.seconds for t in found.layer_s] == pytest.approx(list(LAYERS.values()))
    assert found.overhead_s == pytest.approx(1e-4)


def test_a_long_shard_that_took_no_longer_is_not_believed_to_be_free() -> None:
    found = fit(calls(1), 1, [CallTime(c.rows, c.call_s / 2, c.call_s / 3) for c in calls(1)], 3)
    check_sound(found)
    assert found.layer_s[0].seconds > 1e-5


def test_an_outlier_in_the_overhead_does_not_count() -> None:
    short, long = calls(1), calls(3)
    short[0] = CallTime(1, short[0].call_s + 1, short[0].engine_s)
    assert fit(short, 1, long, 3).overhead_s < 0.01


def test_shards_timed_at_different_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="different rows"):
        fit(calls(1), 1, calls(3)[:-1], 3)


@given(st.lists(st.tuples(SECONDS, SECONDS, SECONDS, SECONDS), min_size=5, max_size=5))
def test_whatever_was_timed_the_result_is_sound(
    noise: list[tuple[float, float, float, float]],
) -> None:
    short = [CallTime(r, a, b) for r, (a, b, _, _) in zip(PROBE_ROWS, noise, strict=True)]
    long = [CallTime(r, c, d) for r, (_, _, c, d) in zip(PROBE_ROWS, noise, strict=True)]
    check_sound(fit(short, 1, long, 3))
    check_sound(fit(short, 1))


@given(st.floats(0, 0.04), st.integers(0, 1 << 32))
def test_little_noise_makes_little_difference(part: float, seed: int) -> None:
    """Up to 4 % on each call: the difference of two layers is off by less than a third."""

    def shaken(times: list[CallTime], salt: int) -> list[CallTime]:
        signs = [1 if (seed >> (i + salt)) & 1 else -1 for i in range(len(times))]
        return [
            CallTime(c.rows, c.call_s * (1 + sign * part), c.engine_s)
            for c, sign in zip(times, signs, strict=True)
        ]

    found = fit(shaken(calls(1), 0), 1, shaken(calls(3), 8), 3)
    for time in found.layer_s:
        assert time.seconds == pytest.approx(LAYERS[time.rows], rel=0.35)


@given(st.lists(SECONDS, min_size=1, max_size=8))
def test_rising_keeps_the_mean_and_what_rises(values: list[float]) -> None:
    found = rising(values)
    assert len(found) == len(values)
    assert all(a <= b * (1 + 1e-9) + 1e-12 for a, b in pairwise(found))
    assert sum(found) == pytest.approx(sum(values))
    assert rising(sorted(values)) == sorted(values)
