"""A published result beside what the product's cost models say of the same machines.

A case predicts the row's value, in the row's unit, from constants; a row that cannot be
forecast from what is published is set apart with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from atoll.forecast.constants import Constants
from bench.forecast.rows import Row, fold_of

Key = Literal[
    "local",
    "prefill",
    "wide",
    "lpu",
    "throughput",
    "throughput_bounded",
    "serving_tpot",
    "serving_ttft",
    "power",
    "power_desk",
]


@dataclass(frozen=True, slots=True)
class Case:
    """A row and its prediction. Rows of the same `run` are scored as one, by their median."""

    key: Key
    family: str
    row: Row
    predict: Callable[[Constants], float]
    run: str = ""

    def fold(self, split: int) -> int:
        """Which fifth it belongs to; rows of one run stay together, as they know each other."""
        return fold_of(self.run or self.row.digest, split)


@dataclass(frozen=True, slots=True)
class Apart:
    """A row that is not forecast, and why."""

    row: Row
    reason: str


Reader = Callable[[Row], "Case | Apart | None"]
"""Of a row it knows, the case or why there is none; None: another reader's row."""
