"""Constants of the cost models, pooled in part: what is known of all, of a family, of a device.

A constant has a prior value and, along a path such as `cuda / RTX 4090`, factors that were
fitted from measurements. Each factor is held near 1 as far as the measurements allow, so
that a device of which little was measured gets nearly what its family has, and one that
nobody measured gets just that: partial pooling (Gelman and Hill, Data Analysis Using
Regression and Multilevel/Hierarchical Models, 2006, chapter 12).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources

import msgspec

SEPARATOR = "/"


@dataclass(frozen=True, slots=True)
class Constant:
    """A constant before any measurement.

    `value` is in SI units; `spread` is how far all, and then each level of the path, may
    lie from it: standard deviations of the logarithm. `source` says where the value is from.
    """

    name: str
    value: float
    spread: tuple[float, ...]
    source: str


@dataclass(slots=True)
class Constants:
    """Fitted factors by path, `NAME/LEVEL/LEVEL`: natural logarithms.

    With `seen`, every path that is asked for is noted there, with its spread: so a fit
    learns what it has to find.
    """

    factors: Mapping[str, float] = field(default_factory=dict)
    seen: dict[str, float] | None = None

    def of(self, constant: Constant, *path: str) -> float:
        """The constant's value for what the path names, as far as it is known.

        Args:
            constant: Which one.
            path: From the widest to the narrowest; a level that is empty ends it.
        """
        key = constant.name
        total = math.log(constant.value)
        for level, spread in enumerate(constant.spread):
            if level:
                if level > len(path) or not path[level - 1]:
                    break
                key += SEPARATOR + path[level - 1]
            if self.seen is not None:
                self.seen[key] = spread
            total += self.factors.get(key, 0.0)
        return math.exp(total)


class Errors(msgspec.Struct, frozen=True):
    """How far forecasts of a kind were from rows that they were not fitted from: absolute
    errors as shares of what was measured, and the number of rows.
    """

    median: float
    p90: float
    n: int


class Fitted(msgspec.Struct, frozen=True):
    """What a fit found: factors by path, and errors by kind of forecast."""

    factors: dict[str, float]
    errors: dict[str, Errors]

    @property
    def constants(self) -> Constants:
        """The constants to forecast with."""
        return Constants(self.factors)


@cache
def shipped_fit() -> Fitted:
    """The fit that this package carries, from `python -m bench fit-forecast`."""
    text = resources.files("atoll.forecast").joinpath("data", "constants.toml").read_text("utf-8")
    return msgspec.toml.decode(text, type=Fitted)
