"""Writes the table and the picture of central-or-pooled.md from what the package forecasts.

    python -m docs.fleet_figures

A test checks that the page is current.
"""

from __future__ import annotations

import re
from pathlib import Path

from docs.marks import replaced

from atoll.domain.errors import BadRequest
from atoll.forecast.compare import Forecast, forecast
from atoll.forecast.constants import shipped_fit
from atoll.forecast.fleet_file import shipped_fleets
from atoll.forecast.models import shipped_models
from atoll.forecast.outlook import Workload
from atoll.forecast.targets import Target
from atoll.report.charts import BarChart
from atoll.report.drawing import panels
from atoll.report.fleets import READING, Compared, Question, fleet_charts
from atoll.report.ink import svg

PAGE = Path(__file__).parent / "explanation" / "central-or-pooled.md"
PICTURE = PAGE.parent / "figures" / "fleets-70b.svg"
PICTURED = "Llama-3.1-70B"
AXES = ("milliseconds", "joules a token")
"""Of the charts in the picture."""
MODELS = ("Llama-3.1-8B", "Llama-3.1-70B", "DeepSeek-R1")
PRECISION = "Q4_K_M"
PROMPT, ANSWER = 500.0, 250.0
COLUMNS = ("Model", "Fleet", "ms a token, alone", "tokens/s, full", "J a token", "USD a million")
UNKNOWN = "-"


def table() -> str:
    """The table in Markdown, one row for each model and fleet."""
    rows = [_row(model, fleet) for model in MODELS for fleet in shipped_fleets()]
    lines = [COLUMNS, tuple("---" for _ in COLUMNS), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def page_with_table(page: str) -> str:
    """`page` with what lies between the marks replaced by the current table."""
    return replaced(page, "figures", table())


def picture() -> str:
    """How long a token takes and what it costs in energy, by fleet, as SVG."""
    return svg(panels(pictured(), title=PICTURED, columns=1, note=READING), PICTURED)


def pictured() -> list[BarChart]:
    """The charts of the picture."""
    fleets = [_compared(line) for line in shipped_fleets()]
    shown = fleet_charts(Question(work_of(PICTURED), Target()), fleets)
    return [chart for chart in shown if chart.axis in AXES]


def words_of(picture: str) -> list[str]:
    """All that a picture says, figures too: its bytes depend on who draws it."""
    return re.findall(r"<text[^>]*>([^<]*)</text>", picture)


def _compared(line: str) -> Compared:
    fleet = shipped_fleets()[line]
    try:
        return Compared(fleet, found(PICTURED, line))
    except BadRequest as problem:
        return Compared(fleet, None, str(problem))


def found(model: str, fleet: str) -> Forecast:
    """What the fleet would do with the model.

    Raises:
        BadRequest: It cannot hold it.
    """
    return forecast(shipped_fleets()[fleet], work_of(model), Target(), shipped_fit())


def work_of(model: str) -> Workload:
    """What is asked with the model."""
    models = shipped_models()
    shape = models.shapes.find(model)
    return Workload(shape, models.bits(shape, PRECISION), PROMPT, ANSWER)


def _row(model: str, fleet: str) -> tuple[str, ...]:
    parts = " + ".join(part.name for part in shipped_fleets()[fleet].parts)
    what = f"`{fleet}`: {parts}"
    try:
        one = found(model, fleet)
    except BadRequest:
        return (model, what, "does not fit", *[UNKNOWN] * 3)
    figures = (one.tokens_per_s, one.joules_per_token, one.usd_per_million)
    forms = ("{:,.0f}", "{:.2f}", "{:.2f}")
    cells = [form.format(x) if x else UNKNOWN for form, x in zip(forms, figures, strict=True)]
    return (model, what, f"{1e3 * one.token_s:.1f}", *cells)


if __name__ == "__main__":
    PAGE.write_text(page_with_table(PAGE.read_text("utf-8")), "utf-8")
    PICTURE.write_text(picture(), "utf-8")
