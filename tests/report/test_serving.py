"""Simulated runs as a page: curves at one rate, lines over several."""

from __future__ import annotations

import pytest

from atoll.domain.errors import BadRequest
from atoll.forecast.devices import shipped_devices
from atoll.forecast.fleet_file import parse_fleet
from atoll.forecast.models import shipped_models
from atoll.forecast.outlook import Workload
from atoll.forecast.targets import Target
from atoll.report.charts import BarChart, LineChart
from atoll.report.page import Page, Table
from atoll.report.serving import LINES_MAX, Run, serving_page
from atoll.sim.serving.arrivals import Arrivals
from atoll.sim.serving.sweep import Case, run_case

WORK = Workload(shipped_models().shapes.find("Llama-3.1-8B"), 4.85, 100.0, 20.0)
TARGET = Target(ttft_s=0.5, tpot_s=0.02)


def run(fleet: str, rate: float, seed: int = 0) -> Run:
    parsed = parse_fleet(fleet, shipped_devices())
    case = Case(parsed, WORK, Arrivals(rate, 20.0, 100, 20), TARGET, seed)
    return Run(fleet, rate, seed, run_case(case))


def line_charts(page: Page) -> dict[str, LineChart]:
    return {chart.title: chart for chart in page.charts if isinstance(chart, LineChart)}


def test_one_rate_is_shown_as_curves() -> None:
    runs = [run("1 x H100 SXM", 2.0), run("2 x RTX 4090", 2.0)]
    page = serving_page("m", TARGET, runs)
    charts = line_charts(page)
    first = charts["Time to the first token"]
    assert [line.name for line in first.lines] == ["1 x H100 SXM", "2 x RTX 4090"]
    found = runs[0].outcome.first_token_s
    assert found is not None
    assert first.lines[0].x[50] == pytest.approx(found.p50)
    assert first.lines[0].y[50] == 0.5
    assert [mark.value for mark in first.x_marks] == [0.5]
    assert [mark.value for mark in charts["Time per token"].x_marks] == [20.0]
    over_time = charts["Tokens over time"].lines[0]
    slice_s = over_time.x[1] - over_time.x[0]
    assert sum(over_time.y) * slice_s == pytest.approx(runs[0].outcome.answer_tokens)
    (busy,) = (chart for chart in page.charts if isinstance(chart, BarChart))
    assert busy.values[0] == pytest.approx(100 * runs[0].outcome.parts[0].busy)
    assert "within 0.5 s" in page.introduction[0]


def test_several_rates_are_shown_as_lines_of_medians() -> None:
    runs = [
        run(fleet, rate, seed)
        for fleet in ("1 x H100 SXM", "1 x RTX 3060")
        for rate in (1.0, 2.0)
        for seed in (0, 1, 2)
    ]
    page = serving_page("m", TARGET, runs)
    charts = line_charts(page)
    tokens = charts["Tokens a second"].lines[0]
    assert tokens.x == (1.0, 2.0)
    assert tokens.y[0] == sorted(one.outcome.tokens_per_s for one in runs[:3])[1]
    # What a card costs that nobody rents is not known: its line has no points, and keeps its place.
    dollars = charts["Cost of a million tokens"].lines
    assert [bool(line.x) for line in dollars] == [True, False]
    assert "3 seeds" in page.introduction[0]
    tables = [part for part in page.parts if isinstance(part, Table)]
    assert len(tables[0].rows) == 12
    assert len(tables[1].rows) == 2


def test_a_run_without_answers_is_told() -> None:
    """A prompt longer than its memory."""
    fleet = parse_fleet("1 x NVIDIA RTX 3060 12GB", shipped_devices())
    case = Case(fleet, WORK, Arrivals(1.0, 5.0, 1_000_000, 20), TARGET)
    page = serving_page("m", TARGET, [Run("f", 1.0, 0, run_case(case))])
    (table, *_) = page.parts
    assert isinstance(table, Table)
    assert table.rows[0][3:8] == ("0.0%", "-", "-", "-", "-")
    assert set(line_charts(page)) == {"Tokens over time"}


def test_too_many_fleets() -> None:
    one = run("1 x H100 SXM", 1.0)
    runs = [Run(f"fleet {at}", 1.0, 0, one.outcome) for at in range(LINES_MAX + 1)]
    with pytest.raises(BadRequest, match="8 fleets"):
        serving_page("m", TARGET, runs)
