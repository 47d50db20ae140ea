"""A report as one page that needs nothing else: no script, no other file, no address.

Importing this imports matplotlib, as `ink` does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import resources
from itertools import count, groupby

from jinja2 import Environment, StrictUndefined

from atoll import __version__
from atoll.report.charts import Chart
from atoll.report.drawing import drawn
from atoll.report.ink import PALE, STRONG, inline_svg, plain, svg
from atoll.report.page import Page, Table

DARK_STRONG = ("#5db2ee", "#ff8a4c", "#2fc39a", "#e3a3c6", "#f0b93a", "#9bd3f7")
DARK_PALE = ("#1f5f8c", "#8a5f10", "#1c6b57", "#7c4763", "#6f5a17", "#2f5f7d")
COLOURS = (
    *((f"strong-{n}", pair) for n, pair in enumerate(zip(STRONG, DARK_STRONG, strict=True))),
    *((f"pale-{n}", pair) for n, pair in enumerate(zip(PALE, DARK_PALE, strict=True))),
)
"""Names of charts' colours, with what they are in the light and in the dark."""


def html(page: Page) -> str:
    """The page; whatever stands in it is shown as it is, and none of it is markup."""
    numbers = count()
    groups: list[tuple[str, Sequence[object]]] = []
    for is_table, parts in groupby(page.parts, key=lambda part: isinstance(part, Table)):
        shown = [part if isinstance(part, Table) else _drawn(part, numbers) for part in parts]
        groups.append(("tables" if is_table else "charts", shown))
    environment = Environment(autoescape=True, undefined=StrictUndefined, finalize=_written)
    text = resources.files("atoll.report").joinpath("page.html").read_text("utf-8")
    return environment.from_string(text).render(
        page=page, groups=groups, colours=COLOURS, version=__version__
    )


def _drawn(chart: Chart, numbers: Iterator[int]) -> tuple[Chart, str]:
    return chart, inline_svg(svg(drawn(chart), chart.title), f"chart-{next(numbers)}")


def _written(value: object) -> object:
    """What the template escapes and writes, without what no document may hold. It trusts
    pictures: words in them were escaped by whoever wrote the picture.
    """
    return value if hasattr(value, "__html__") else plain(str(value))
