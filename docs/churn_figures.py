"""Writes the table on machines that leave of central-or-pooled.md, from simulated runs.

    python -m docs.churn_figures

A test checks that the page is current: the same seed gives the same run.
"""

from __future__ import annotations

from dataclasses import replace

from docs.fleet_figures import PAGE, work_of
from docs.marks import replaced

from atoll.forecast.fleet_file import Fleet, shipped_fleets
from atoll.sim.serving.arrivals import Arrivals
from atoll.sim.serving.outcome import Outcome
from atoll.sim.serving.sweep import Case, run_case

MODEL = "Llama-3.1-70B"
LEAVE = (0.0, 0.05, 0.5, 2.0)
"""Shares of machines that leave in an hour."""
SPARES = 2
WORK = Arrivals(4.0, 1800.0, 500, 250, spread=0.5)
COLUMNS = (
    *("Leave in an hour", "left", "paused", "began again", "answered"),
    *("first token s: median, 99th", "token ms: median, 99th"),
)


def outcome(leave: float) -> Outcome:
    """What comes of half an hour in which machines leave at such a rate."""
    part = shipped_fleets()["200-homes"].parts[0]
    line = replace(part.line, n=part.line.n + SPARES)
    fleet = Fleet("homes", (replace(part, line=line, leave=leave),))
    return run_case(Case(fleet, work_of(MODEL), WORK, seed=1))


def table() -> str:
    """The table in Markdown, a row for each rate."""
    rows = [_row(leave, outcome(leave)) for leave in LEAVE]
    lines = [COLUMNS, tuple("---" for _ in COLUMNS), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _row(leave: float, found: Outcome) -> tuple[str, ...]:
    first, token = found.first_token_s, found.token_s
    assert first is not None
    assert token is not None
    return (
        f"{leave:.0%}",
        f"{found.events.get('machines left', 0)}",
        f"{found.events.get('streams paused', 0)}",
        f"{found.events.get('streams that began again', 0)}",
        f"{found.answered:,} of {found.requests:,}",
        f"{first.p50:.2f}, {first.p99:.2f}",
        f"{1e3 * token.p50:.0f}, {1e3 * token.p99:.0f}",
    )


def page_with_table(page: str) -> str:
    """`page` with what lies between the marks replaced by the current table."""
    return replaced(page, "churn", table())


if __name__ == "__main__":
    PAGE.write_text(page_with_table(PAGE.read_text("utf-8")), "utf-8")
