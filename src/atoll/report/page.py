"""A report as data: a title, an introduction, tables and charts. `html` and `drawing` show it."""

from __future__ import annotations

from dataclasses import dataclass

from atoll.report.charts import BarChart, Chart, LineChart


@dataclass(frozen=True, slots=True)
class Table:
    """Cells in rows; columns of `texts` begin on the left, others are figures."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    texts: frozenset[int] = frozenset({0})
    caption: str = ""

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.heads) for row in self.rows)


@dataclass(frozen=True, slots=True)
class Page:
    """What a report says, from top to bottom.

    `introduction` is in paragraphs; `reading` says how the charts are to be read.
    """

    title: str
    introduction: tuple[str, ...]
    reading: str
    parts: tuple[Table | Chart, ...]

    @property
    def charts(self) -> tuple[Chart, ...]:
        """The charts alone."""
        return tuple(part for part in self.parts if isinstance(part, BarChart | LineChart))
