"""How far forecasts are from what was measured: errors of rows that no constant was fitted from."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from atoll.forecast.constants import Constants
from bench.forecast import local, lpu, power, serving, throughput, wide
from bench.forecast.cases import Apart, Case, Reader
from bench.forecast.rows import Row

READERS: tuple[Reader, ...] = (
    *(lpu.read, wide.read, local.read, throughput.read, serving.read, power.read),
)
P90_ROWS = 10
"""A 90th percentile of fewer says nothing."""


@dataclass
class Scores:
    """Absolute errors as shares of what was measured, by key; one for each row or run."""

    errors: dict[str, list[float]] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)

    def add(self, more: Scores) -> None:
        """Put those of other rows to these."""
        for key, errors in more.errors.items():
            self.errors.setdefault(key, []).extend(errors)
            self.rows[key] = self.rows.get(key, 0) + more.rows[key]

    def figures(self) -> dict[str, float | int]:
        """Medians, 90th percentiles and numbers of rows."""
        found: dict[str, float | int] = {}
        for key, errors in sorted(self.errors.items()):
            found[f"{key}_median"] = round(quantile(errors, 0.5), 3)
            if self.rows[key] >= P90_ROWS:
                found[f"{key}_p90"] = round(quantile(errors, 0.9), 3)
            found[f"{key}_n"] = self.rows[key]
        return found


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of them lie, in a straight line between neighbours."""
    ordered = sorted(values)
    at = share * (len(ordered) - 1)
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (at - low) * (ordered[high] - ordered[low])


def sort_out(rows: Iterable[Row]) -> tuple[list[Case], list[Apart]]:
    """Rows that are forecast, and rows that are not, with the reason."""
    cases: list[Case] = []
    apart: list[Apart] = []
    for row in rows:
        found = next((f for read in READERS if (f := read(row)) is not None), None)
        if isinstance(found, Case):
            cases.append(found)
        else:
            apart.append(found or Apart(row, _reason(row)))
    return cases, apart


def _reason(row: Row) -> str:
    """Why nothing here forecasts a row."""
    if row.model == "SDXL":
        return "it makes pictures, not tokens"
    if not row.n:
        return "how many devices served it is not published"
    return f"nothing here forecasts {row.metric!r} of its system"


def error_of(case: Case, constants: Constants) -> float:
    """How far off, as a share of what was measured: above 0, too much is foretold."""
    return case.predict(constants) / case.row.value - 1


def score(cases: Iterable[Case], constants: Constants) -> Scores:
    """Errors of these cases; rows of one run count as one, with their median."""
    by_run: dict[tuple[str, str], list[float]] = defaultdict(list)
    scores = Scores()
    for number, case in enumerate(cases):
        by_run[case.key, case.run or str(number)].append(abs(error_of(case, constants)))
        scores.rows[case.key] = scores.rows.get(case.key, 0) + 1
    for (key, _), errors in by_run.items():
        scores.errors.setdefault(key, []).append(quantile(errors, 0.5))
    return scores
