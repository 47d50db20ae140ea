"""Finds the constants' factors from published results: maximum a posteriori.

Minimises the errors' logarithms, each as a share of `NOISE`, and the factors, each as a share
of its spread. Large errors count less than by their square (Cauchy's loss), as some published
rows are of set-ups that were broken. Solved by SciPy's `least_squares` (trust regions).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from atoll.forecast.constants import Constants
from bench.forecast.cases import Case

Floats = NDArray[np.float64]
STEP = 1e-5
NOISE = 0.05
"""How far two honest measurements of the same may lie apart, as a share."""


def fit(cases: Sequence[Case]) -> Constants:
    """Constants that fit these cases best.

    Args:
        cases: What was measured, and how it is predicted.
    """
    found: dict[str, float] = {}
    for group in _apart(cases):
        found |= _fit(group)
    return Constants(found)


def paths_of(case: Case) -> dict[str, float]:
    """The paths that a case's prediction rests on, with their spreads."""
    seen: dict[str, float] = {}
    case.predict(Constants(seen=seen))
    return seen


def _apart(cases: Sequence[Case]) -> list[list[Case]]:
    """Groups of cases that share no constant: each is a problem of its own, and a small one."""
    groups: list[tuple[set[str], list[Case]]] = []
    for case in cases:
        paths, members = set(paths_of(case)), [case]
        rest = []
        for other_paths, others in groups:
            if paths & other_paths:
                paths |= other_paths
                members = others + members
            else:
                rest.append((other_paths, others))
        groups = [*rest, (paths, members)]
    return [members for _, members in groups]


def _fit(cases: Sequence[Case]) -> dict[str, float]:
    owns = [paths_of(case) for case in cases]
    spread_of = {path: spread for own in owns for path, spread in own.items()}
    paths = list(spread_of)
    spreads = np.array([spread_of[path] for path in paths])
    measured = np.log([case.row.value for case in cases])
    runs = [case.run for case in cases]
    # Rows of one run are one measurement, told in several ways.
    weights = np.array([1 / math.sqrt(runs.count(run)) if run else 1.0 for run in runs]) / NOISE
    users = [[i for i, own in enumerate(owns) if path in own] for path in paths]

    def errors(factors: Floats, chosen: Sequence[int]) -> Floats:
        constants = Constants(dict(zip(paths, factors.tolist(), strict=True)))
        predicted = np.log([cases[i].predict(constants) for i in chosen])
        error: Floats = weights[chosen] * (predicted - measured[chosen])
        # Cauchy's loss, for the errors alone.
        return np.sign(error) * np.sqrt(np.log1p(error**2))

    def residuals(factors: Floats) -> Floats:
        return np.concatenate([errors(factors, range(len(cases))), factors / spreads])

    def slopes(factors: Floats) -> Floats:
        """Only rows that a factor is of change with it: most of the matrix is empty."""
        found = np.zeros((len(cases) + len(paths), len(paths)))
        here = errors(factors, range(len(cases)))
        for column, rows in enumerate(users):
            moved = factors.copy()
            moved[column] += STEP
            found[rows, column] = (errors(moved, rows) - here[rows]) / STEP
            found[len(cases) + column, column] = 1 / spreads[column]
        return found

    found = least_squares(residuals, np.zeros(len(paths)), jac=slopes)
    return dict(zip(paths, found.x.tolist(), strict=True))
