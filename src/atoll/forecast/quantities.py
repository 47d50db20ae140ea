"""Quantities with their units, as people and data sheets write them: `3350 GB/s`, `24 GiB`.

In the program they are plain numbers in SI units: bytes, bytes a second, operations a
second, watts, seconds, cycles a second, US dollars, US dollars an hour. A number without a
unit, a unit of another dimension or a value that no machine has is refused: nearly every
absurd forecast comes of one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from atoll.domain.errors import BadRequest

_NUMBER_UNIT = re.compile(r"\s*([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([A-Za-z/]*)\s*")
_POWERS = {"K": 1, "M": 2, "G": 3, "T": 4, "P": 5}
_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Dimension:
    """What a quantity measures: its units as factors to the first, and the sane range."""

    what: str
    units: dict[str, float]
    least: float
    most: float


def _scaled(unit: str, step: int = 1000, sign: str = "", powers: str = "KMGTP") -> dict[str, float]:
    return {f"{p}{sign}{unit}": float(step ** _POWERS[p]) for p in powers}


SIZE = Dimension("memory", {"B": 1.0, **_scaled("B"), **_scaled("B", 1024, "i")}, 1e6, 1e18)
RATE = Dimension(
    "bandwidth",
    {
        "B/s": 1.0,
        **_scaled("B/s"),
        **_scaled("B/s", 1024, "i"),
        **{f"{p}bit/s": 1000 ** _POWERS[p] / 8 for p in "KMGT"},
    },
    1e3,
    1e18,
)
COMPUTE = Dimension("compute", {**_scaled("FLOPS"), **_scaled("OPS")}, 1e7, 1e20)
POWER = Dimension("power", {"mW": 1e-3, "W": 1.0, "kW": 1e3, "MW": 1e6}, 0.1, 1e9)
TIME = Dimension(
    "time", {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": _HOUR_S}, 1e-10, 1e7
)
FREQUENCY = Dimension("frequency", {"Hz": 1.0, "kHz": 1e3, "MHz": 1e6, "GHz": 1e9}, 1e6, 1e11)
PRICE = Dimension("price", {"USD": 1.0}, 0.0, 1e9)
HOURLY = Dimension("price an hour", {"USD/h": 1.0}, 0.0, 1e6)


def parse_quantity(text: str, dimension: Dimension, *, where: str) -> float:
    """The number in the dimension's first unit.

    Args:
        text: A number and a unit, as `3350 GB/s`.
        dimension: What it is to measure.
        where: What the quantity belongs to, for the message.

    Raises:
        BadRequest: It has no unit, another dimension's, or a value that no machine has.
    """
    match = _NUMBER_UNIT.fullmatch(text)
    example = f"write it like {_example(dimension)}"
    if match is None:
        raise BadRequest(f"{where}: {text!r} is no {dimension.what}", hint=example)
    number, unit = match.groups()
    if not unit:
        raise BadRequest(f"{where}: {text!r} has no unit", hint=example)
    factor = dimension.units.get(unit)
    if factor is None:
        known = ", ".join(dimension.units)
        raise BadRequest(
            f"{where}: {unit!r} is no unit of {dimension.what}", hint=f"units are {known}"
        )
    value = float(number) * factor
    if not dimension.least <= value <= dimension.most:
        raise BadRequest(f"{where}: no machine has a {dimension.what} of {text.strip()}")
    return value


def _example(dimension: Dimension) -> str:
    examples = {
        SIZE.what: "24 GiB",
        RATE.what: "936 GB/s",
        COMPUTE.what: "71.2 TFLOPS",
        POWER.what: "350 W",
        TIME.what: "4.3 us",
        FREQUENCY.what: "900 MHz",
        PRICE.what: "1500 USD",
        HOURLY.what: "0.39 USD/h",
    }
    return examples[dimension.what]
