"""Simulated runs of fleets, as tables and charts: what `atoll simulate` shows."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from atoll.domain.errors import BadRequest
from atoll.forecast.targets import Target
from atoll.report.charts import LOG_SPAN, Bar, BarChart, Bars, Chart, Line, LineChart, Mark
from atoll.report.page import Page, Table
from atoll.sim.serving.outcome import Outcome, PartOutcome
from atoll.sim.serving.tally import Spread

LINES_MAX = 8
"""More lines in a chart cannot be told apart."""
UNKNOWN = "-"
SOURCE = (
    "These are simulations of machines that need not be there: steps take what forecasts from data"
    " sheets and published results say, and are as far off as those."
)
READING = (
    "A curve of times says which share of requests was at most so long: the further left and the"
    " steeper, the better."
)
HUNDREDTHS = tuple(at / 100 for at in range(101))


@dataclass(frozen=True, slots=True)
class Run:
    """One run: its fleet, how many requests came a second, its seed, and what came of it."""

    fleet: str
    requests_per_s: float
    seed: int
    outcome: Outcome


def serving_page(model: str, target: Target, runs: Sequence[Run]) -> Page:
    """What came of runs with a model.

    Raises:
        BadRequest: They are of more fleets than a chart can show.
    """
    fleets = list(dict.fromkeys(run.fleet for run in runs))
    if len(fleets) > LINES_MAX:
        raise BadRequest(f"a report shows {LINES_MAX} fleets, and there are {len(fleets)}")
    rates = sorted({run.requests_per_s for run in runs})
    seeds = len({run.seed for run in runs})
    over = f"{seeds} seeds, of which lines show the median. " if seeds > 1 else ""
    introduction = (
        f"What users of {model} would see, and what it would take: {len(fleets)} "
        f"fleet{'s' * (len(fleets) > 1)}, {len(rates)} rate{'s' * (len(rates) > 1)} of requests, "
        f"{over or 'one seed. '}{_asked(target)}"
    ).strip()
    charts = by_rate(runs) if len(rates) > 1 else by_share(runs, target)
    parts = (runs_table(runs), *charts, *_parts(runs))
    return Page(f"{model}: fleets simulated", (introduction, SOURCE), READING, parts)


def _asked(target: Target) -> str:
    asked = [
        f"a first token within {target.ttft_s:.4g} s" if target.ttft_s else "",
        f"a token every {1e3 * target.tpot_s:.4g} ms" if target.tpot_s else "",
    ]
    words = " and ".join(filter(None, asked))
    return f"Asked for is {words}." if words else ""


def runs_table(runs: Sequence[Run]) -> Table:
    """Every run in a row."""
    heads = (
        *("fleet", "requests/s", "seed", "answered", "first s p50", "p99", "token ms p50", "p99"),
        *("tokens/s", "in target", "J/token", "USD/Mtoken"),
    )
    return Table("All runs", heads, tuple(_row(run) for run in runs))


def _row(run: Run) -> tuple[str, ...]:
    found = run.outcome
    return (
        run.fleet,
        f"{run.requests_per_s:.3g}",
        f"{run.seed}",
        f"{found.answered / max(1, found.requests):.1%}",
        *_percentiles(found.first_token_s, "{:.3f}", 1.0),
        *_percentiles(found.token_s, "{:.1f}", 1e3),
        f"{found.tokens_per_s:,.0f}",
        _cell(found.within_target, "{:.1%}"),
        _cell(found.joules_per_token, "{:.3g}"),
        _cell(found.usd_per_million_tokens, "{:.3g}"),
    )


def _percentiles(times: Spread | None, form: str, scale: float) -> tuple[str, str]:
    if times is None:
        return UNKNOWN, UNKNOWN
    return form.format(scale * times.p50), form.format(scale * times.p99)


def _cell(value: float | None, form: str) -> str:
    return UNKNOWN if value is None else form.format(value)


# One rate: how times are distributed, and when tokens came


def by_share(runs: Sequence[Run], target: Target) -> tuple[Chart, ...]:
    """Runs at one rate: of each fleet's first seed the curves."""
    shown = list({run.fleet: run for run in reversed(runs)}.values())[::-1]
    first = tuple(
        Line(run.fleet, run.outcome.curves.first_token_s, HUNDREDTHS)
        for run in shown
        if run.outcome.curves.first_token_s
    )
    token = tuple(
        Line(run.fleet, tuple(1e3 * s for s in run.outcome.curves.token_s), HUNDREDTHS)
        for run in shown
        if run.outcome.curves.token_s
    )
    over_time = tuple(_over_time(run) for run in shown)
    charts: list[Chart] = []
    if first:
        marks = _marks("asked for", target.ttft_s)
        charts.append(
            LineChart(
                *("Time to the first token", "seconds", "share of requests", first),
                log_x=True,
                x_marks=marks,
            )
        )
    if token:
        marks = _marks("asked for", 1e3 * target.tpot_s)
        charts.append(
            LineChart(
                *("Time per token", "milliseconds", "share of requests", token),
                log_x=True,
                x_marks=marks,
            )
        )
    charts.append(LineChart("Tokens over time", "seconds", "tokens a second", over_time))
    return tuple(charts)


def _over_time(run: Run) -> Line:
    curves = run.outcome.curves
    starts = tuple(at * curves.slice_s for at in range(len(curves.tokens_per_s) + 1))
    return Line(run.fleet, starts, (*curves.tokens_per_s, 0.0), "steps")


def _marks(name: str, value: float) -> tuple[Mark, ...]:
    return (Mark(name, value),) if value else ()


# Several rates: what becomes of times as more requests come


def by_rate(runs: Sequence[Run]) -> tuple[Chart, ...]:
    """What becomes of each fleet as more requests come."""
    charts: list[Chart] = []
    rates = [run.requests_per_s for run in runs]
    for title, axis, value, log in (
        ("Time to the first token, 99th percentile", "seconds", _first_p99, True),
        ("Time per token, median", "milliseconds", _token_p50, True),
        ("Tokens a second", "tokens a second", _tokens, False),
        ("Requests within what was asked for", "share of requests", _within, False),
        ("Energy of a token", "joules a token", _joules, True),
        ("Cost of a million tokens", "US dollars", _dollars, True),
    ):
        lines = _lines(runs, value)
        if any(line.x for line in lines):
            wide = max(rates) > LOG_SPAN * min(rates)
            charts.append(LineChart(title, "requests a second", axis, lines, log_x=wide, log_y=log))
    return tuple(charts)


def _lines(runs: Sequence[Run], value: Callable[[Outcome], float | None]) -> tuple[Line, ...]:
    """A line for each fleet: the median of seeds at each rate; without points where nothing is
    known.
    """
    lines = []
    for fleet in dict.fromkeys(run.fleet for run in runs):
        by_rate: dict[float, list[float]] = {}
        for run in runs:
            found = value(run.outcome) if run.fleet == fleet else None
            if found is not None:
                by_rate.setdefault(run.requests_per_s, []).append(found)
        rates = tuple(sorted(by_rate))
        lines.append(Line(fleet, rates, tuple(statistics.median(by_rate[r]) for r in rates)))
    return tuple(lines)


def _first_p99(found: Outcome) -> float | None:
    return found.first_token_s.p99 if found.first_token_s else None


def _token_p50(found: Outcome) -> float | None:
    return 1e3 * found.token_s.p50 if found.token_s else None


def _tokens(found: Outcome) -> float | None:
    return found.tokens_per_s


def _within(found: Outcome) -> float | None:
    return found.within_target


def _joules(found: Outcome) -> float | None:
    return found.joules_per_token


def _dollars(found: Outcome) -> float | None:
    return found.usd_per_million_tokens


# Parts of the fleets


def parts_table(parts: Sequence[PartOutcome], fleets: Sequence[str] = ()) -> Table:
    """What became of parts; `fleets` names the fleet of each, where there are several."""
    heads: tuple[str, ...] = (
        "part",
        "systems",
        "machines",
        "there",
        "busy",
        "streams",
        "most",
        "W",
        "USD",
    )
    rows = tuple(map(_part, parts))
    if fleets:
        heads = ("fleet", *heads)
        rows = tuple((name, *row) for name, row in zip(fleets, rows, strict=True))
    texts = frozenset({0, 1} if fleets else {0})
    return Table(
        "Parts", heads, rows, texts, "Of each fleet's last run. Streams are of one system."
    )


def _part(part: PartOutcome) -> tuple[str, ...]:
    return (
        part.name,
        f"{part.systems:,}",
        f"{part.machines:,}",
        f"{part.up:.1%}",
        f"{part.busy:.1%}",
        f"{part.streams_mean:.1f}",
        f"{part.streams_peak}",
        _cell(part.watts, "{:,.0f}"),
        _cell(part.usd, "{:,.2f}"),
    )


def _parts(runs: Sequence[Run]) -> tuple[Table | Chart, ...]:
    """How busy the parts of each fleet were, in its last run: the one with most requests."""
    shown = [
        (run.fleet, part)
        for run in {run.fleet: run for run in runs}.values()
        for part in run.outcome.parts
    ]
    if not shown:
        return ()
    fleets, parts = [name for name, _ in shown], [part for _, part in shown]
    table = parts_table(parts, fleets)
    labels = tuple(part.name for part in parts)
    if len(set(labels)) < len(labels):
        return (table,)
    bars = (Bars("busy", tuple(Bar(100 * part.busy) for part in parts)),)
    busy = BarChart("How busy parts were", "per cent of their time", labels, bars, "{:.0f} %")
    return (busy, table)
