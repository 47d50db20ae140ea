"""Which of several rings a request goes to: the one that will finish it first.

What a ring foretells of itself is corrected by what its streams are seen to take.
A stream's tokens come one a step; with more streams a step takes longer once the
slowest part of the ring has no gap left (design section 5, `plan.predict`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from atoll.plan.report import PlanReport

STEP_S = 0.05
"""Taken for a step's time where none is known: all rings are then alike."""
ROWS_A_STEP = 32
"""Rows of a prompt that take about as long as one token, where nothing is known."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What a ring takes: for a token of a lone stream, for one of many, for a prompt's row.

    Args:
        token_s: A lone stream's step.
        busy_s: What a step of one stream keeps the busiest part of the ring from others.
        row_s: A row of a prompt.
    """

    token_s: float
    busy_s: float
    row_s: float


@dataclass(frozen=True, slots=True)
class Load:
    """A ring as it stands: streams that run and wait, and how many may run.

    `cached` tokens of the request's prompt lie in its caches.
    """

    pace: Pace
    active: int
    waiting: int
    slots: int
    cached: int = 0


def paces(rings: Sequence[tuple[PlanReport | None, float | None]]) -> list[Pace]:
    """The rings' paces: as foretold where they were planned, as measured where tokens went round.

    One of which neither is known is taken to be as quick as the quickest, so that it is tried.

    Args:
        rings: For each its plan, and the seconds of a lone row's lap; None: not known.
    """
    quickest_s = min((lap_s for _, lap_s in rings if lap_s), default=STEP_S)
    return [_pace(report, lap_s, quickest_s) for report, lap_s in rings]


def _pace(report: PlanReport | None, lap_s: float | None, quickest_s: float) -> Pace:
    if report is None:
        token_s = lap_s or quickest_s
        # Not knowing what of it is the busiest part's, take half.
        return Pace(token_s, token_s / 2, token_s / ROWS_A_STEP)
    foretold_s = report.token_ms / 1e3
    slower = lap_s / foretold_s if lap_s and foretold_s else 1.0
    row_s = max(0.0, report.first_token_ms / 1e3 - foretold_s) / max(1, report.prompt)
    parts_ms = [report.ends_ms, *(stage.step_ms for stage in report.stages)]
    return Pace(foretold_s * slower, max(parts_ms) / 1e3 * slower, row_s * slower)


def step_s(load: Load) -> float:
    """Seconds from token to token of a stream that this ring serves beside the others."""
    together = min(load.active + load.waiting + 1, load.slots)
    return max(load.pace.token_s, together * load.pace.busy_s)


def finish_s(load: Load, prompt: int, tokens: float, *, theirs: float | None = None) -> float:
    """Seconds until a request's last token if it is given to this ring now.

    Args:
        load: The ring.
        prompt: Rows of the prompt.
        tokens: Tokens that are asked for at most.
        theirs: Tokens of an answer of those in line; None: as many, as it is not known.
    """
    # Those in line are served first.
    ahead = max(0, load.active + load.waiting + 1 - load.slots)
    before = ahead / load.slots * (tokens if theirs is None else theirs)
    return load.pace.row_s * (prompt - load.cached) + step_s(load) * (tokens + before)


def first_to_finish(loads: Sequence[Load], prompt: int, tokens: int) -> int:
    """The index of the ring that finishes first; of equals the one with fewer streams.

    Raises:
        ValueError: There is no ring.
    """
    return min(
        range(len(loads)),
        key=lambda i: (finish_s(loads[i], prompt, tokens), loads[i].active + loads[i].waiting, i),
    )
