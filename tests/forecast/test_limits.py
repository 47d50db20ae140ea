"""Bounds: the largest number that keeps them, and what is said of the one that breaks."""

from __future__ import annotations

import pytest

from atoll.forecast.limits import Limit, late_limit, memory_limit, most
from atoll.forecast.targets import Target

BOTH = Target(ttft_s=0.5, tpot_s=0.03)


@pytest.mark.parametrize("bound", [0, 1, 2, 7, 99, 100, 101])
def test_the_largest_that_is_met(bound: int) -> None:
    assert most(100, lambda n: n <= bound) == min(100, bound)


def test_it_asks_of_few() -> None:
    asked: list[int] = []

    def is_met(n: int) -> bool:
        asked.append(n)
        return n <= 1234

    assert most(1 << 20, is_met) == 1234
    assert len(asked) <= 22


def test_which_part_of_the_target_is_missed() -> None:
    assert late_limit(BOTH, 0.5, 0.03, "alone") is None
    assert late_limit(Target(), 1e9, 1e9, "alone") is None
    first = late_limit(BOTH, 0.51234, 0.02, "alone")
    said = "the first token takes 0.51234 s alone, longer than the 0.5 s asked for"
    assert first == Limit("ttft", said)
    token = late_limit(BOTH, 0.4, 0.03125, "with 7 streams")
    said = "a token takes 31.25 ms with 7 streams, longer than the 30 ms asked for"
    assert token == Limit("tpot", said)


@pytest.mark.parametrize(
    ("streams", "figure"),
    [
        (0.5, "1.0 GiB for caches, and those of a stream take 2.0 GiB"),
        (1.5, "1.0 GiB for caches, full with 1 stream"),
        (4096.0, "1.0 GiB for caches, full with 4,096 streams"),
    ],
)
def test_memory_is_full(streams: float, figure: str) -> None:
    assert memory_limit(2**30, 2**30 / streams) == Limit("memory", figure)


def test_whose_memory_is_full() -> None:
    assert (
        "1.0 GiB for caches in each ring, full" in memory_limit(2**30, 2**20, "in each ring").figure
    )
