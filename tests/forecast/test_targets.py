"""Targets in a line."""

from __future__ import annotations

import pytest

from atoll.domain.errors import BadRequest
from atoll.forecast.targets import Target, parse_target


@pytest.mark.parametrize(
    ("slo", "rate", "target"),
    [
        ("", "", Target()),
        ("ttft<0.5s,tpot<30ms", "5/s", Target(0.5, 0.03, 5.0)),
        (" TPOT <= 100 ms ", "30/min", Target(0.0, 0.1, 0.5)),
        ("ttft<1min", "36 / h", Target(60.0, 0.0, 0.01)),
    ],
)
def test_lines(slo: str, rate: str, target: Target) -> None:
    found = parse_target(slo, rate)
    assert (found.ttft_s, found.tpot_s, found.rate) == pytest.approx(
        (target.ttft_s, target.tpot_s, target.rate)
    )


@pytest.mark.parametrize(
    ("slo", "rate", "problem"),
    [
        ("tpot<30", "", "has no unit"),
        ("tpot>30ms", "", "is no bound"),
        ("fast", "", "is no bound"),
        ("tpot<1s,tpot<2s", "", "tpot is bounded twice"),
        ("tpot<30GB", "", "no unit of time"),
        ("", "5", "is no rate"),
        ("", "0/s", "out of range"),
        ("", "-1/s", "is no rate"),
        ("", "99999999/s", "out of range"),
    ],
)
def test_what_cannot_be_read(slo: str, rate: str, problem: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_target(slo, rate)
    assert problem in str(caught.value)
