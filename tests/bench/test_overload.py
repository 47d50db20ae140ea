"""What the benchmark of overload makes of what its clients saw."""

from __future__ import annotations

import itertools

import pytest
from bench.overload import Tally, _figures, _retry_after_s, _until


def test_figures() -> None:
    alone = Tally(answered_s=[1.0, 3.0], hangs=1)
    overload = Tally(
        answered_s=[2.0, 4.0],
        refused_s=[i / 1e3 for i in range(100, 0, -1)],
        codes={"503": 100},
        hangs=2,
    )
    found = _figures(alone, overload)
    assert found["refuse_ms_p95"] == 96
    assert found["refuse_ms_max"] == 100
    assert found["admitted_slowdown"] == 1.5
    assert found["hangs"] == 3


def test_when_to_come_back() -> None:
    assert _retry_after_s(b"HTTP/1.1 503 x\r\nRetry-After: 7\r\nfoo: bar") == 7
    with pytest.raises(RuntimeError):
        _retry_after_s(b"HTTP/1.1 503 x\r\nfoo: bar")


def test_steps_end() -> None:
    assert list(itertools.islice(_until(float("-inf")), 3)) == []
    assert len(list(itertools.islice(_until(float("inf")), 3))) == 3
