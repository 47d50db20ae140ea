"""What simulated runs came to, as tables and for `--json`."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from rich.table import Table

from atoll.cli.screen import data_console, printable
from atoll.report.serving import Run, runs_table
from atoll.sim.serving.outcome import Outcome, PartOutcome

UNKNOWN = "-"


class CaseReply(msgspec.Struct, frozen=True):
    """One run, for `--json`. `requests_per_s` are of made requests, `speed_up` of a trace."""

    fleet: str
    requests_per_s: float | None
    speed_up: float | None
    seed: int
    outcome: Outcome


class ServingReply(msgspec.Struct, frozen=True):
    """All runs, for `--json`."""

    model: str
    bits: float
    runs: tuple[CaseReply, ...]


def show_run(reply: CaseReply) -> None:
    """One run in full: what users saw, the fleet's parts, and what befell them."""
    found = reply.outcome
    console = data_console()
    console.print(_users(reply))
    if found.parts:
        console.print(_parts(found.parts))
    facts = [
        ("requests answered", f"{found.answered:,} of {found.requests:,}"),
        ("simulated time", f"{found.seconds:,.1f} s"),
        ("tokens a second", f"{found.tokens_per_s:,.1f}"),
        ("within the target", _number(found.within_target, "{:.1%}")),
        ("joules a token", _number(found.joules_per_token, "{:.3g}")),
        ("USD a million tokens", _number(found.usd_per_million_tokens, "{:.3g}")),
        *((f"failed: {why}", f"{n:,}") for why, n in sorted(found.failed.items())),
        *((what, f"{n:,}") for what, n in sorted(found.events.items())),
    ]
    for name, value in facts:
        print(f"{name:<32}{value}")


def _users(reply: CaseReply) -> Table:
    found = reply.outcome
    table = Table(title=printable(reply.fleet))
    table.add_column("what users saw")
    for heading in ("p50", "p90", "p95", "p99", "mean"):
        table.add_column(heading, justify="right")
    for name, times, form, scale in (
        ("first token, s", found.first_token_s, "{:.3f}", 1.0),
        ("each token, ms", found.token_s, "{:.2f}", 1e3),
        ("whole answer, s", found.answer_s, "{:.2f}", 1.0),
    ):
        cells = [UNKNOWN] * 5
        if times is not None:
            values = (times.p50, times.p90, times.p95, times.p99, times.mean)
            cells = [form.format(scale * value) for value in values]
        table.add_row(name, *cells)
    return table


def _parts(parts: Sequence[PartOutcome]) -> Table:
    table = Table()
    table.add_column("part")
    for heading in ("systems", "machines", "there", "busy", "streams", "most", "W", "USD"):
        table.add_column(heading, justify="right")
    for part in parts:
        table.add_row(
            printable(part.name),
            f"{part.systems:,}",
            f"{part.machines:,}",
            f"{part.up:.1%}",
            f"{part.busy:.1%}",
            f"{part.streams_mean:.1f}",
            f"{part.streams_peak}",
            _number(part.watts, "{:,.0f}"),
            _number(part.usd, "{:,.2f}"),
        )
    return table


def show_runs(runs: Sequence[Run]) -> None:
    """Several runs, a line each."""
    shown = runs_table(runs)
    table = Table()
    for place, head in enumerate(shown.heads):
        table.add_column(head, justify="left" if place in shown.texts else "right")
    for row in shown.rows:
        table.add_row(*map(printable, row))
    data_console().print(table)


def _number(value: float | None, form: str) -> str:
    return UNKNOWN if value is None else form.format(value)
