"""What charts show, as plain data: bars with whiskers, and lines over an axis.

Nothing here draws: `drawing` makes pictures of it, `page` text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

LOG_SPAN = 30.0
"""Values that lie further apart than so many times are shown on a logarithmic axis."""

Span = tuple[float, float]
Style = Literal["line", "dots", "steps"]


@dataclass(frozen=True, slots=True)
class Bar:
    """A value, and where half and nine tenths of results would lie.

    `value` is None where nothing is known, and `note` then says why, in few words.
    """

    value: float | None
    half: Span | None = None
    most: Span | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Bars:
    """Bars of one kind, one for each label of their chart."""

    name: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Mark:
    """A value to hold others against, such as a bound."""

    name: str
    value: float


@dataclass(frozen=True, slots=True)
class BarChart:
    """Horizontal bars, some for each label.

    `axis` names what is shown, with its unit; `form` is how a value is written beside its bar.
    """

    title: str
    axis: str
    labels: tuple[str, ...]
    series: tuple[Bars, ...]
    form: str = "{:,.4g}"
    mark: Mark | None = None
    caption: str = ""

    def __post_init__(self) -> None:
        assert all(len(bars.bars) == len(self.labels) for bars in self.series)

    @property
    def values(self) -> list[float]:
        """All that are known."""
        return [bar.value for bars in self.series for bar in bars.bars if bar.value is not None]

    @property
    def is_log(self) -> bool:
        """Whether the axis is logarithmic: a linear one would hide the small values."""
        values = self.values
        return bool(values) and min(values) > 0 and max(values) > LOG_SPAN * min(values)


@dataclass(frozen=True, slots=True)
class Line:
    """Points by a name, joined, alone, or as steps that each hold until the next point."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    style: Style = "line"

    def __post_init__(self) -> None:
        assert len(self.x) == len(self.y)


@dataclass(frozen=True, slots=True)
class LineChart:
    """Lines over a common axis; both axes' names have their units. `marks` lie across, `x_marks`
    stand upright.
    """

    title: str
    x_axis: str
    y_axis: str
    lines: tuple[Line, ...]
    log_x: bool = False
    log_y: bool = False
    marks: tuple[Mark, ...] = ()
    x_marks: tuple[Mark, ...] = ()
    caption: str = ""


Chart = BarChart | LineChart


def finite(spans: Sequence[Span | None]) -> list[float]:
    """The ends of spans that have an end."""
    return [end for span in spans if span is not None for end in span if math.isfinite(end)]
