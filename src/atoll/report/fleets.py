"""Fleets beside each other, as tables and charts: what `atoll compare` shows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from atoll.domain.errors import BadRequest
from atoll.forecast.compare import Forecast
from atoll.forecast.fleet_file import Fleet
from atoll.forecast.outlook import Workload
from atoll.forecast.targets import Target
from atoll.report.charts import Bar, BarChart, Bars, Mark, Span
from atoll.report.page import Page, Table

UNKNOWN = "-"
FLEETS_MAX = 60
SOURCE = "These are forecasts from data sheets and published results, and no measurements."
READING = (
    "The thick part of a line is where half of results would lie, the thin part where nine tenths"
    " would: so far were forecasts of the kind off, on published results that they were not made"
    " from. Of devices without a result of their own, expect the thin part."
)


@dataclass(frozen=True, slots=True)
class Compared:
    """A fleet, and what it would do, or the problem why nothing is forecast."""

    fleet: Fleet
    forecast: Forecast | None
    problem: str = ""

    @property
    def name(self) -> str:
        """What it was called."""
        return self.fleet.name

    @property
    def machines(self) -> str:
        """What it consists of."""
        return " + ".join(part.machines_in_words for part in self.fleet.parts)


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked of all fleets."""

    work: Workload
    target: Target


def fleet_page(question: Question, fleets: Sequence[Compared]) -> Page:
    """The whole answer.

    Raises:
        BadRequest: There are more fleets than a chart can show.
    """
    if len(fleets) > FLEETS_MAX:
        raise BadRequest(f"a report shows {FLEETS_MAX} fleets, and there are {len(fleets):,}")
    work, target = question.work, question.target
    each = f"{work.prompt:,.6g} tokens of a prompt and {work.answer:,.6g} of an answer"
    asked = [
        f"a first token within {target.ttft_s:.4g} s" if target.ttft_s else "",
        f"a token every {1e3 * target.tpot_s:.4g} ms" if target.tpot_s else "",
    ]
    within = " and ".join(filter(None, asked))
    load = f"as many streams as get {within}" if within else "as many streams as there is room for"
    rate = f" {target.rate:,.4g} requests come each second." if target.rate else ""
    paid = work.paid.replace("-", " ")
    return Page(
        f"{work.shape.name}: fleets compared",
        (
            f"What each fleet would do with {work.shape.name}, {work.bits:.2f} bits a weight, with"
            f" {load}. A request has {each}.{rate} Devices are paid for as {paid}.",
            SOURCE,
        ),
        READING,
        (fleet_table(fleets), *fleet_charts(question, fleets), _words(fleets)),
    )


def fleet_table(fleets: Sequence[Compared]) -> Table:
    """Every figure in a row for each fleet."""
    heads = (
        *("fleet", "token ms", "first s", "streams", "bound by", "loaded ms", "tokens/s", "W"),
        *("J/token", "USD/h", "USD/Mtoken", "for the rate", "off by"),
    )
    return Table(
        "All figures",
        heads,
        tuple((fleet.name, *_cells(fleet.forecast, len(heads) - 1)) for fleet in fleets),
        frozenset({0, 4}),
        "Token and first token are of a stream alone; a token of all streams at once takes the"
        " loaded time. Forecasts of all streams were off by so much: median, 90th percentile.",
    )


def _cells(found: Forecast | None, n: int) -> tuple[str, ...]:
    if found is None:
        return (UNKNOWN,) * n

    def number(value: float, form: str) -> str:
        return form.format(value) if value else UNKNOWN

    is_lpu = not found.knows_streams
    return (
        number(1e3 * found.token_s, "{:,.1f}"),
        number(found.first_s, "{:.2f}"),
        UNKNOWN if is_lpu else f"{found.streams:,}",
        found.limit.bound if found.limit else UNKNOWN,
        number(1e3 * found.loaded_s * bool(found.streams), "{:,.1f}"),
        number(found.tokens_per_s, "{:,.0f}"),
        number(found.watts, "{:,.0f}"),
        number(found.joules_per_token, "{:.3g}"),
        number(found.hourly, "{:.2f}"),
        number(found.usd_per_million, "{:.2f}"),
        number(found.fleets, "{:,.0f}"),
        f"{found.error.median:.0%}, {found.error.p90:.0%}",
    )


def _words(fleets: Sequence[Compared]) -> Table:
    """What bounds each fleet, and everything else that is to be known of it."""

    def said(fleet: Compared) -> tuple[str, ...]:
        found = fleet.forecast
        if found is None:
            return fleet.name, fleet.machines, UNKNOWN, fleet.problem
        limit = found.limit
        notes = [note for note in found.notes if limit is None or note != limit.figure]
        bound = f"{limit.bound}: {limit.figure}" if limit else UNKNOWN
        return fleet.name, fleet.machines, bound, "; ".join(notes)

    heads = ("fleet", "machines", "bound by", "notes")
    rows = tuple(said(fleet) for fleet in fleets)
    return Table(
        *("What bounds each fleet", heads, rows, frozenset(range(len(heads)))),
        "What one more stream would break: memory for caches, the time per token (tpot) or to the"
        " first one (ttft) that was asked for, sessions that a stage holds, streams that a server's"
        " scheduler takes at once, or how far forecasts go (known).",
    )


def fleet_charts(question: Question, fleets: Sequence[Compared]) -> tuple[BarChart, ...]:
    """A chart of each figure that is known of one fleet at least."""
    target = question.target
    wanted = target.rate * question.work.answer
    load = "within what was asked for" if target.ttft_s or target.tpot_s else "at full load"
    charts = [
        _chart(
            *(f"Tokens a second, {load}", "tokens a second", "{:,.0f}"),
            fleets=fleets,
            kinds={"all streams together": _tokens},
            mark=Mark(f"asked for: {wanted:,.6g}", wanted) if wanted else None,
            caption="What all streams of a fleet get together. More is better.",
        ),
        _chart(
            *("Time per token", "milliseconds", "{:,.1f}"),
            fleets=fleets,
            kinds={"a stream alone": _alone, "with all streams at once": _loaded},
            mark=(
                Mark(f"asked for: {1e3 * target.tpot_s:,.4g} ms", 1e3 * target.tpot_s)
                if target.tpot_s
                else None
            ),
            caption="How long users wait for each token after the first. Less is better.",
        ),
        _chart(
            *("Energy of a token", "joules a token", "{:,.3g}"),
            fleets=fleets,
            kinds={"joules": _joules},
            caption="What all machines draw, for each token. Less is better. Errors of power and of"
            " speed are taken together, as if neither knew of the other.",
        ),
        _chart(
            *("Cost of a million tokens", "US dollars", "{:,.2f}"),
            fleets=fleets,
            kinds={"dollars": _dollars},
            caption="What all devices cost an hour, for what they do in it. Less is better.",
        ),
    ]
    if wanted:
        charts.append(
            _chart(
                *(f"Fleets for {target.rate:,.4g} requests a second", "fleets", "{:,.0f}"),
                fleets=fleets,
                kinds={"fleets": lambda found: _fleets(found, wanted)},
                caption="How many of each the rate takes, at the pace above. Less is better.",
            )
        )
    return tuple(chart for chart in charts if chart.values)


Read = Callable[[Forecast], Bar]


def _chart(
    title: str,
    axis: str,
    form: str,
    *,
    fleets: Sequence[Compared],
    kinds: dict[str, Read],
    caption: str,
    mark: Mark | None = None,
) -> BarChart:
    def bar(fleet: Compared, read: Read) -> Bar:
        if fleet.forecast is None:
            return Bar(None, note=fleet.problem.removeprefix(f"{fleet.name} ").partition(":")[0])
        return read(fleet.forecast)

    return BarChart(
        *(title, axis, tuple(fleet.name for fleet in fleets)),
        tuple(
            Bars(name, tuple(bar(fleet, read) for fleet in fleets)) for name, read in kinds.items()
        ),
        *(form, mark, caption),
    )


def _tokens(found: Forecast) -> Bar:
    if not found.tokens_per_s:
        return _none(found)
    error = found.error
    return Bar(
        found.tokens_per_s,
        _rate_span(found.tokens_per_s, error.median),
        _rate_span(found.tokens_per_s, error.p90),
    )


def _alone(found: Forecast) -> Bar:
    error = found.alone_error
    value = 1e3 * found.token_s
    return Bar(value, _time_span(value, error.median), _time_span(value, error.p90))


def _loaded(found: Forecast) -> Bar:
    return _by_token(found, 1e3 * found.loaded_s)


def _dollars(found: Forecast) -> Bar:
    return _by_token(found, found.usd_per_million, "no price is known")


def _joules(found: Forecast) -> Bar:
    value = found.joules_per_token
    if not value:
        return _by_token(found, value, "its power is not published")
    speed, power = found.error, found.power_error
    return Bar(
        value,
        _quotient_span(value, power.median, speed.median),
        _quotient_span(value, power.p90, speed.p90),
    )


def _fleets(found: Forecast, wanted: float) -> Bar:
    if not found.tokens_per_s:
        return _none(found)

    def span(share: float) -> Span:
        low, high = _time_span(wanted / found.tokens_per_s, share)
        return max(1.0, math.ceil(low)), math.ceil(high)

    return Bar(float(found.fleets), span(found.error.median), span(found.error.p90))


def _by_token(found: Forecast, value: float, unknown: str = "") -> Bar:
    """A figure that falls as tokens a second rise."""
    if not found.tokens_per_s:
        return _none(found)
    if not value:
        return Bar(None, note=unknown)
    error = found.error
    return Bar(value, _time_span(value, error.median), _time_span(value, error.p90))


def _none(found: Forecast) -> Bar:
    """Why nothing is known of many streams."""
    if found.limit is None:
        return Bar(None, note="streams at once are not published")
    missed = found.limit.bound in ("tpot", "ttft")
    return Bar(None, note="misses what was asked for" if missed else "no room for a stream")


def _rate_span(value: float, share: float) -> Span:
    """Where tokens a second would be measured that were forecast as `value`, off by that share of
    what was measured: forecast / (1 + share) to forecast / (1 - share).
    """
    return value / (1 + share), value / (1 - share) if share < 1 else math.inf


def _time_span(value: float, share: float) -> Span:
    """The same of what is one over tokens a second: times, and costs of a token."""
    return value * max(0.0, 1 - share), value * (1 + share)


def _quotient_span(value: float, power: float, speed: float) -> Span:
    """The same of watts over tokens a second, whose errors know nothing of each other: their
    logarithms add as squares.
    """
    (least, most), (slow, fast) = _rate_span(1.0, power), _rate_span(1.0, speed)
    down, up = _far(1 / least, fast), _far(most, 1 / slow)
    return value / down, value * up


def _far(one: float, other: float) -> float:
    """How far two independent factors, each at least 1, lead together."""
    return math.exp(math.hypot(math.log(one), math.log(other)))
