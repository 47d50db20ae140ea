"""Fits and scores: each fifth of the published rows with constants from the other four, for
several ways of dividing them.

With a file of other rows, these are scored with the constants that the product carries.
Without, this machine's own rings are forecast and measured as well (`own`), and the serving
simulation is timed (`bench.simulate`).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from atoll.forecast.constants import Errors, Fitted, shipped_fit
from bench import simulate
from bench.forecast import own
from bench.forecast.cases import Apart, Case
from bench.forecast.fit import fit
from bench.forecast.rows import FOLDS, SPLITS, Row, read_rows, shipped_rows
from bench.forecast.score import Scores, error_of, quantile, score, sort_out

CONSTANTS = Path(__file__).parents[2] / "src" / "atoll" / "forecast" / "data" / "constants.toml"
HEAD = """# Factors of the cost models' constants (natural logarithms), and how far forecasts were
# from rows that they were not fitted from. Written by `python -m bench fit-forecast`.
"""
LEAST = 5e-4
"""Factors nearer to 1 than that are not worth a line."""


def cross_validated(cases: list[Case]) -> Scores:
    """Scores of all cases, none of them with constants that were fitted from it; every row is
    scored in each split.
    """
    scores = Scores()
    for split in range(SPLITS):
        for fold in range(FOLDS):
            scored = [case for case in cases if case.fold(split) == fold]
            lines = " ".join(str(case.row.line) for case in scored)
            print(f"split {split + 1}, fold {fold + 1}: lines {lines}", file=sys.stderr, flush=True)
            constants = fit([case for case in cases if case.fold(split) != fold])
            scores.add(score(scored, constants))
    scores.rows = {key: n // SPLITS for key, n in scores.rows.items()}
    return scores


def run(data: str = "", *, with_own: bool = True, with_sim: bool = True) -> dict[str, Any]:
    """Score; minutes without `data`.

    Args:
        data: A CSV file of the published results' columns; empty: those themselves.
        with_own: Without `data`, forecast and measure this machine's own rings as well.
        with_sim: Without `data`, time the serving simulation as well, beside Vidur where it is.
    """
    if data:
        rows: list[Row] = list(read_rows(Path(data).read_text("utf-8"), source=data))
        cases, apart = sort_out(rows)
        constants = shipped_fit().constants
        for case in sorted(cases, key=lambda case: -abs(error_of(case, constants))):
            print(f"{error_of(case, constants):+.3f} {case.key}: {case.row}", file=sys.stderr)
        scores = score(cases, constants)
    else:
        cases, apart = sort_out(shipped_rows())
        scores = cross_validated(cases)
    measured = own.run() if with_own and not data else {}
    if with_sim and not data:
        measured |= simulate.run(rounds=1)
    return {**scores.figures(), **measured, **_told(apart)}


def fit_and_write() -> dict[str, Any]:
    """Fit from all rows, and write the constants that the product carries."""
    cases, apart = sort_out(shipped_rows())
    scores = cross_validated(cases)
    factors = {
        path: round(factor, 4)
        for path, factor in sorted(fit(cases).factors.items())
        if abs(factor) >= LEAST
    }
    errors = {
        key: Errors(
            round(quantile(found, 0.5), 4), round(quantile(found, 0.9), 4), scores.rows[key]
        )
        for key, found in sorted(scores.errors.items())
    }
    CONSTANTS.write_text(HEAD + _toml(Fitted(factors, errors)), "utf-8")
    return {**scores.figures(), "factors": len(factors), **_told(apart)}


def _toml(fitted: Fitted) -> str:
    lines = ["", "[factors]", *(f'"{path}" = {value}' for path, value in fitted.factors.items())]
    for key, error in fitted.errors.items():
        lines += ["", f"[errors.{key}]", f"median = {error.median}", f"p90 = {error.p90}"]
        lines.append(f"n = {error.n}")
    return "\n".join(lines) + "\n"


def _told(apart: list[Apart]) -> dict[str, Any]:
    """Rows that are not forecast, by the reason; each is named on stderr."""
    reasons: dict[str, int] = {}
    for one in apart:
        print(f"apart: {one.row}: {one.reason}", file=sys.stderr)
        reasons[one.reason] = reasons.get(one.reason, 0) + 1
    return {"apart": len(apart), "apart_reasons": reasons}
