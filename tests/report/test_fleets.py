"""Fleets beside each other: what the page and its charts say of them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from atoll.domain.errors import BadRequest
from atoll.forecast.compare import Forecast, forecast
from atoll.forecast.constants import Errors, shipped_fit
from atoll.forecast.devices import shipped_devices
from atoll.forecast.fleet_file import parse_fleet
from atoll.forecast.models import shipped_models
from atoll.forecast.outlook import Workload
from atoll.forecast.targets import Target
from atoll.report.charts import Bar, BarChart
from atoll.report.fleets import (
    FLEETS_MAX,
    Compared,
    Question,
    fleet_charts,
    fleet_page,
    fleet_table,
)
from atoll.report.page import Table

WORK = Workload(shipped_models().shapes.find("Llama-3.1-70B"), 4.5, 500.0, 250.0)
FREE = Question(WORK, Target())
TARGET = Question(WORK, Target(tpot_s=0.05, rate=20.0))


def compared(line: str, question: Question = FREE) -> Compared:
    fleet = parse_fleet(line, shipped_devices())
    try:
        return Compared(fleet, forecast(fleet, question.work, question.target, shipped_fit()))
    except BadRequest as problem:
        return Compared(fleet, None, str(problem))


def known(one: Compared) -> Forecast:
    assert one.forecast is not None
    return one.forecast


def charts(question: Question, *lines: str) -> dict[str, BarChart]:
    """By the unit of their axis."""
    made = fleet_charts(question, [compared(line, question) for line in lines])
    return {chart.axis: chart for chart in made}


def bar(chart: BarChart, series: int = 0, row: int = 0) -> Bar:
    return chart.series[series].bars[row]


def test_tokens_a_second_and_what_they_were_off_by() -> None:
    found = known(compared("8xh100"))
    shown = bar(charts(FREE, "8xh100")["tokens a second"])
    assert shown.value == found.tokens_per_s
    assert shown.half is not None
    assert shown.most is not None
    # An error is a share of what was measured.
    for end in shown.most:
        assert abs(found.tokens_per_s / end - 1) == pytest.approx(found.error.p90)
    for end in shown.half:
        assert abs(found.tokens_per_s / end - 1) == pytest.approx(found.error.median)


def test_times_and_costs_are_off_as_tokens_a_second_are() -> None:
    found = known(compared("8xh100"))
    shown = charts(FREE, "8xh100")
    tokens = bar(shown["tokens a second"]).most
    assert tokens is not None
    loaded = bar(shown["milliseconds"], series=1)
    assert loaded.value == pytest.approx(1e3 * found.loaded_s)
    assert loaded.most == pytest.approx(tuple(1e3 * found.streams / end for end in tokens[::-1]))
    dollars = bar(shown["US dollars"])
    assert dollars.value == found.usd_per_million
    assert dollars.most == pytest.approx(tuple(found.hourly / end / 0.0036 for end in tokens[::-1]))


def test_a_stream_alone_has_errors_of_its_own() -> None:
    found = known(compared("8xh100"))
    shown = bar(charts(FREE, "8xh100")["milliseconds"])
    alone_ms, off = 1e3 * found.token_s, found.alone_error.p90
    assert shown.value == pytest.approx(alone_ms)
    assert shown.most == pytest.approx((alone_ms * (1 - off), alone_ms * (1 + off)))
    assert found.alone_error != found.error


def test_joules_are_off_by_power_and_by_speed() -> None:
    found = known(compared("8xh100"))
    shown = bar(charts(FREE, "8xh100")["joules a token"])
    assert shown.value == found.joules_per_token
    assert shown.most is not None
    speed, power = found.error.p90, found.power_error.p90
    up = math.hypot(math.log(1 + speed), math.log(1 / (1 - power)))
    assert math.log(shown.most[1] / shown.value) == pytest.approx(up)
    # More than either alone, and less than both at their worst.
    assert 1 + speed < shown.most[1] / shown.value < (1 + speed) / (1 - power)


def test_an_error_of_all_and_more_has_no_upper_end() -> None:
    one = compared("8xh100")
    wild = Errors(0.5, 1.2, 10)
    found = Compared(one.fleet, replace(known(one), error=wild, power_error=wild))
    tokens, times, joules, dollars = fleet_charts(FREE, [found])
    assert bar(tokens).most == pytest.approx((known(one).tokens_per_s / 2.2, math.inf))
    for chart, series in ((times, 1), (dollars, 0)):
        shown = bar(chart, series)
        assert shown.value is not None
        assert shown.most == pytest.approx((0.0, 2.2 * shown.value))
    assert bar(joules).most == (0.0, math.inf)


def test_fleets_for_a_rate_are_whole() -> None:
    shown = charts(TARGET, "8xh100", "4-ultras")["fleets"]
    found = known(compared("8xh100", TARGET))
    one = bar(shown)
    assert one.value == found.fleets
    assert one.most is not None
    assert all(end == int(end) >= 1 for end in one.most)
    exact = 20 * 250 / found.tokens_per_s
    off = found.error.p90
    low, high = one.most
    assert low == max(1, math.ceil(exact * (1 - off)))
    assert high == math.ceil(exact * (1 + off))
    assert "fleets" not in charts(FREE, "8xh100")


def test_what_was_asked_for_is_marked() -> None:
    shown = charts(TARGET, "8xh100")
    tokens, times = shown["tokens a second"].mark, shown["milliseconds"].mark
    assert tokens is not None
    assert (tokens.value, tokens.name) == (5000.0, "asked for: 5,000")
    assert times is not None
    assert times.value == 50.0
    free = charts(FREE, "8xh100")
    assert free["tokens a second"].mark is None
    assert free["milliseconds"].mark is None


@pytest.mark.parametrize(
    ("line", "axis", "note"),
    [
        ("lpu", "tokens a second", "streams at once are not published"),
        ("4-ultras", "tokens a second", "misses what was asked for"),
        ("1 x RTX 4090", "tokens a second", "cannot hold Llama-3.1-70B"),
        ("v6e-8", "joules a token", "its power is not published"),
        ("v6e-8", "US dollars", "no price is known"),
    ],
)
def test_why_a_bar_is_missing(line: str, axis: str, note: str) -> None:
    shown = bar(charts(TARGET, line, "8xh100")[axis])
    assert (shown.value, shown.note) == (None, note)


def test_no_room_for_a_stream() -> None:
    question = Question(replace(WORK, prompt=1e7), Target())
    shown = charts(question, "2 x H100 SXM", "8xb200")
    assert "tokens a second" not in shown
    assert bar(shown["milliseconds"], series=1).note == "no room for a stream"


def test_a_figure_that_is_known_of_nobody_has_no_chart() -> None:
    assert set(charts(FREE, "lpu")) == {"milliseconds"}
    assert charts(FREE, "1 x RTX 4090") == {}


def test_the_table_has_every_fleet() -> None:
    table = fleet_table([compared(line) for line in ("8xh100", "lpu", "1 x RTX 4090")])
    server, lpu, none = (dict(zip(table.heads, row, strict=True)) for row in table.rows)
    assert server["bound by"] == "memory"
    assert server["tokens/s"] == f"{known(compared('8xh100')).tokens_per_s:,.0f}"
    assert lpu["streams"] == lpu["bound by"] == lpu["loaded ms"] == "-"
    assert set(none.values()) == {"1 x RTX 4090", "-"}


def test_a_fleet_that_serves_nobody_has_no_streams() -> None:
    table = fleet_table([compared("4-ultras", TARGET)])
    row = dict(zip(table.heads, table.rows[0], strict=True))
    assert (row["streams"], row["bound by"], row["loaded ms"]) == ("0", "tpot", "-")


def test_the_page_says_what_was_asked_and_what_bounds_whom() -> None:
    page = fleet_page(TARGET, [compared(line, TARGET) for line in ("8xh100", "6-rented", "lpu")])
    assert page.title == "Llama-3.1-70B: fleets compared"
    said = page.introduction[0]
    for part in ("4.50 bits", "a token every 50 ms", "500 tokens of a prompt", "20 requests"):
        assert part in said
    words = page.parts[-1]
    assert isinstance(words, Table)
    server, rented, lpu = words.rows
    assert server[1] == "8 x NVIDIA H100 SXM"
    assert server[2].startswith("known: at full load it gives")
    assert rented[1] == "6 x NVIDIA RTX 4090, 40 ms apart"
    # Once, not among the notes as well.
    assert "longer than" in rented[2]
    assert "longer than" not in rented[3]
    assert lpu[2] == "-"
    assert "as many streams as there is room for" in fleet_page(FREE, []).introduction[0]


def test_too_many_for_a_chart() -> None:
    one = compared("8xh100")
    assert fleet_page(FREE, [one] * FLEETS_MAX)
    with pytest.raises(BadRequest, match="a report shows 60 fleets, and there are 61"):
        fleet_page(FREE, [one] * (FLEETS_MAX + 1))
