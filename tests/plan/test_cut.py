"""Cuts against all there are."""

from __future__ import annotations

import itertools
import random

import pytest

from atoll.plan.cut import Share, least_time, most_tokens, place, total_s


def every_cut(n: int, parts: int) -> list[list[int]]:
    return [
        [b - a for a, b in itertools.pairwise((0, *cuts, n))]
        for cuts in itertools.combinations(range(1, n), parts - 1)
    ]


def shares_of(rng: random.Random, n: int) -> list[Share]:
    return [Share(rng.uniform(0, 2), rng.uniform(0.1, 3), rng.randint(1, 8)) for _ in range(n)]


@pytest.mark.parametrize("seed", range(40))
def test_no_cut_is_better(seed: int) -> None:
    rng = random.Random(seed)
    shares, n, lanes = shares_of(rng, rng.randint(1, 4)), rng.randint(1, 10), rng.randint(2, 5)
    rest_s, floor_s = rng.uniform(0, 9), rng.uniform(0, 2)
    fitting = [
        counts
        for counts in every_cut(n, len(shares))
        if all(c <= s.layers_max for c, s in zip(counts, shares, strict=True))
    ]

    def period(counts: list[int]) -> float:
        slowest = max(s.overhead_s + s.layer_s * c for s, c in zip(shares, counts, strict=True))
        return max(rest_s + total_s(shares, counts), lanes * max(slowest, floor_s))

    least = least_time(shares, n)
    most = most_tokens(shares, n, rest_s=rest_s, lanes=lanes, floor_s=floor_s)
    if not fitting:
        assert least is None
        assert most is None
        return
    assert least is not None
    assert most is not None
    assert total_s(shares, least) == pytest.approx(min(total_s(shares, c) for c in fitting))
    assert period(most) == pytest.approx(min(map(period, fitting)))


def test_more_nodes_than_layers() -> None:
    assert least_time([Share(0, 1, 5)] * 4, 3) is None


def test_real_cuts_stay_within_memory_and_boundaries() -> None:
    shares = [Share(0, 1, 9), Share(0, 2, 9)]
    found = place(shares, [10, 10, 50, 10], [70, 60], [1, 1, 5, 1], (0, 2, 4), bound_s=99)
    assert found == [(0, 2), (2, 4)]
    assert place(shares, [10, 10, 50, 10], [70, 50], [1, 1, 5, 1], (0, 2, 4), bound_s=99) is None
    assert place(shares, [10, 10, 50, 10], [70, 60], [1, 1, 5, 1], (0, 2, 4), bound_s=11) is None
