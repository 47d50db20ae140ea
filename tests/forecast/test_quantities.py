"""Numbers with units: what they mean, and what is refused."""

from __future__ import annotations

import pytest

from atoll.domain.errors import BadRequest
from atoll.forecast.quantities import (
    COMPUTE,
    FREQUENCY,
    HOURLY,
    POWER,
    PRICE,
    RATE,
    SIZE,
    TIME,
    Dimension,
    parse_quantity,
)


@pytest.mark.parametrize(
    ("text", "dimension", "value"),
    [
        ("24 GiB", SIZE, 24 * 1024**3),
        ("141GB", SIZE, 141e9),
        ("3350 GB/s", RATE, 3.35e12),
        ("55 TiB/s", RATE, 55 * 1024**4),
        ("100 Mbit/s", RATE, 12.5e6),
        ("71.2 TFLOPS", COMPUTE, 71.2e12),
        ("750 TOPS", COMPUTE, 750e12),
        ("1.73 kW", POWER, 1730.0),
        ("4.3 us", TIME, 4.3e-6),
        ("900 MHz", FREQUENCY, 900e6),
        ("0 USD", PRICE, 0.0),
        ("0.39 USD/h", HOURLY, 0.39),
    ],
)
def test_units(text: str, dimension: Dimension, value: float) -> None:
    assert parse_quantity(text, dimension, where="it") == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "dimension", "problem"),
    [
        ("3350", RATE, "reef: '3350' has no unit"),
        ("3350 GB", RATE, "reef: 'GB' is no unit of bandwidth"),
        ("24 GB/s", SIZE, "'GB/s' is no unit of memory"),
        ("-5 W", POWER, "'-5 W' is no power"),
        ("nan W", POWER, "'nan W' is no power"),
        ("1e3 W", POWER, "'1e3 W' is no power"),
        ("", POWER, "'' is no power"),
        ("9999999999 PB", SIZE, "no machine has a memory of 9999999999 PB"),
        ("1 B", SIZE, "no machine has a memory of 1 B"),
        ("0.001 mW", POWER, "no machine has a power of 0.001 mW"),
    ],
)
def test_what_is_refused(text: str, dimension: Dimension, problem: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_quantity(text, dimension, where="reef")
    assert problem in str(caught.value)


def test_a_refusal_shows_how_to_write_it() -> None:
    with pytest.raises(BadRequest) as caught:
        parse_quantity("936", RATE, where="reef")
    assert caught.value.hint == "write it like 936 GB/s"
