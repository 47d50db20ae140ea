"""What simulated runs came to, as tables and for `--json`."""

from __future__ import annotations

import msgspec
from rich.table import Table

from atoll.cli.report_tables import show_table
from atoll.cli.screen import data_console, printable
from atoll.report.serving import parts_table
from atoll.sim.serving.outcome import Outcome

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
    data_console().print(_users(reply))
    if found.parts:
        show_table(parts_table(found.parts))
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


def _number(value: float | None, form: str) -> str:
    return UNKNOWN if value is None else form.format(value)
