"""Charts as pictures: one alone, or several as panels of one picture."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from atoll.report.charts import Bar, BarChart, Bars, Chart, LineChart, Mark, Span, finite
from atoll.report.ink import (
    DASHES,
    GRID,
    HATCHES,
    INK,
    MARKS,
    MUTED,
    PALE,
    PAPER,
    STRONG,
    plain,
    style,
)

WIDTH = 7.2
"""Of a chart, inches."""
LINES_HEIGHT = 3.6
ROW_HEIGHT = (0.26, 0.19)
"""Of a label with one series, and of each of several."""
AROUND_HEIGHT = 1.05
"""Title, axis and margins."""
LABEL_SHARE = 0.8
"""Of a label's height, that its bars take."""
LABEL_CHARS = 26
LABEL_LINES = 3
WORDS_CHARS = 48
"""Of why there is no bar."""
TITLE_HEIGHT = 0.5
LINE_HEIGHT = 0.18
NOTE_CHARS_INCH = 14
DOTS_MAX = 40
"""Lines of more points are drawn without a mark at each."""


def drawn(chart: Chart) -> Figure:
    """The chart alone; its caption is left to whoever shows it."""
    return panels((chart,), title="", columns=1)


def panels(charts: Sequence[Chart], *, title: str, columns: int = 2, note: str = "") -> Figure:
    """Charts in rows beside each other.

    Args:
        charts: What is shown.
        title: Above all of them; empty: none.
        columns: How many stand beside each other at most.
        note: Below all of them; empty: none.
    """
    columns = min(columns, len(charts))
    rows = [charts[at : at + columns] for at in range(0, len(charts), columns)]
    heights = [max(map(_height, row)) for row in rows]
    said = textwrap.fill(plain(note), int(WIDTH * columns * NOTE_CHARS_INCH))
    around = TITLE_HEIGHT * bool(title) + LINE_HEIGHT * (said.count("\n") + 1) * bool(said)
    with style():
        figure = Figure(figsize=(WIDTH * columns, sum(heights) + around))
        engine = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1, wspace=0.02, hspace=0.02)
        figure.set_layout_engine(engine)
        grid = figure.add_gridspec(len(rows), columns, height_ratios=heights)
        for place, chart in enumerate(charts):
            _draw(figure.add_subplot(grid[divmod(place, columns)]), chart)
        if title:
            figure.suptitle(plain(title), x=0.01, ha="left", size=14, weight="bold")
        if said:
            figure.supxlabel(said, x=0.01, ha="left", size=9, color=MUTED)
        # Laid out once: a second drawing of what is laid out would move it by a little.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
    return figure


def _height(chart: Chart) -> float:
    if isinstance(chart, LineChart):
        return LINES_HEIGHT
    n = len(chart.series)
    row = ROW_HEIGHT[0] if n == 1 else n * ROW_HEIGHT[1] + 0.08
    wrapped = max((label.count("\n") for label in map(_label, chart.labels)), default=0)
    row = max(row, 0.17 * (wrapped + 1) + 0.06)
    return len(chart.labels) * row + AROUND_HEIGHT + 0.22 * (n > 1 or chart.mark is not None)


def _draw(axes: Axes, chart: Chart) -> None:
    if isinstance(chart, BarChart):
        _draw_bars(axes, chart)
        named = len(chart.series) + (chart.mark is not None)
    else:
        _draw_lines(axes, chart)
        named = len(chart.lines) + len(chart.marks)
    pad = 6.0
    if named > 1:
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(0.0, 1.0),
            ncols=4,
            borderaxespad=0.2,
            handlelength=2.6,
            columnspacing=1.6,
        )
        pad = 24.0
    axes.set_title(plain(chart.title), pad=pad)


def _label(text: str) -> str:
    lines = textwrap.wrap(
        plain(text), LABEL_CHARS, max_lines=LABEL_LINES, placeholder=" …", break_on_hyphens=False
    )
    return "\n".join(lines)


def _draw_bars(axes: Axes, chart: BarChart) -> None:
    log = chart.is_log
    low, high = _limits(chart)
    axes.set_ylim(max(1, len(chart.labels)) - 0.5, -0.5)
    if log:
        axes.set_xscale("log")
    axes.set_xlim(low, high)
    width = LABEL_SHARE / len(chart.series)
    for place, bars in enumerate(chart.series):
        at = [_at(chart, row, place) for row in range(len(chart.labels))]
        if log:
            _dots(axes, bars, at, place)
        else:
            _blocks(axes, bars, at, place, width)
        for y, bar in zip(at, bars.bars, strict=True):
            _whiskers(axes, bar, y, STRONG[place % len(STRONG)] if log else INK)
            if bar.value is not None:
                _word(axes, 1.015, y, chart.form.format(bar.value))
    _reasons(axes, chart)
    if chart.mark is not None:
        _mark(axes, chart.mark, across=False)
    axes.set_yticks(range(len(chart.labels)), [_label(label) for label in chart.labels])
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(plain(chart.axis) + (", logarithmic" if log else ""))
    _number(axes.xaxis, low, high, log=log, whole=chart.form.endswith(".0f}"))
    axes.grid(visible=True, axis="x")


def _limits(chart: BarChart) -> Span:
    """The ends of a bar chart's axis, around all that has an end."""
    bars = [bar for series in chart.series for bar in series.bars]
    ends = [*chart.values, *finite([bar.most for bar in bars]), *finite([bar.half for bar in bars])]
    if chart.mark is not None:
        ends.append(chart.mark.value)
    if not ends:
        return 0.0, 1.0
    if chart.is_log:
        return min(end for end in ends if end > 0) / 1.5, max(ends) * 1.5
    return 0.0, (max(ends) or 1.0) * 1.05


def _blocks(axes: Axes, bars: Bars, at: list[float], place: int, width: float) -> None:
    known = [(y, bar.value) for y, bar in zip(at, bars.bars, strict=True) if bar.value is not None]
    axes.barh(
        *([y for y, _ in known], [value for _, value in known]),
        height=width * 0.86,
        color=PALE[place % len(PALE)],
        edgecolor=MUTED,
        linewidth=0.6,
        hatch=HATCHES[place % len(HATCHES)],
        label=plain(bars.name),
    )


def _dots(axes: Axes, bars: Bars, at: list[float], place: int) -> None:
    """A bar's length would say nothing where the axis has no zero: a dot at its end does."""
    known = [(y, bar.value) for y, bar in zip(at, bars.bars, strict=True) if bar.value is not None]
    start, colour = axes.get_xlim()[0], STRONG[place % len(STRONG)]
    axes.hlines(
        [y for y, _ in known],
        start,
        [value for _, value in known],
        colors=GRID,
        linewidth=1.2,
        zorder=1,
    )
    axes.plot(
        *([value for _, value in known], [y for y, _ in known], MARKS[place % len(MARKS)]),
        markersize=5.5,
        markeredgewidth=1.3,
        markeredgecolor=colour,
        markerfacecolor=PAPER if place % 2 else colour,
        zorder=4,
        label=plain(bars.name),
    )


def _whiskers(axes: Axes, bar: Bar, y: float, colour: str) -> None:
    """Thick where half of results would lie, thin where nine tenths would."""
    low, high = axes.get_xlim()
    for span, width in ((bar.most, 1.1), (bar.half, 3.6)):
        if bar.value is not None and span is not None:
            ends = [max(low, span[0]), min(high, span[1])]
            axes.plot(ends, [y, y], color=colour, linewidth=width, solid_capstyle="butt", zorder=3)


def _at(chart: BarChart, row: int, place: int) -> float:
    """Where a bar lies across its axis: series of a label share one unit."""
    return row + (place - (len(chart.series) - 1) / 2) * LABEL_SHARE / len(chart.series)


def _reasons(axes: Axes, chart: BarChart) -> None:
    """Why bars are missing, once where it is the same for all of a label."""
    for row in range(len(chart.labels)):
        bars = [series.bars[row] for series in chart.series]
        if all(bar.value is None and bar.note == bars[0].note for bar in bars):
            _reason(axes, row, bars[0].note)
            continue
        for place, bar in enumerate(bars):
            if bar.value is None:
                _reason(axes, _at(chart, row, place), bar.note)


def _reason(axes: Axes, y: float, note: str) -> None:
    words = _word(axes, 0.01, y, textwrap.shorten(plain(note), WORDS_CHARS, placeholder=" …"))
    words.set(color=MUTED, style="italic", zorder=5)
    words.set_bbox({"facecolor": PAPER, "edgecolor": "none", "pad": 0.5})


def _word(axes: Axes, x: float, y: float, said: str) -> Text:
    """A word at a bar's height; `x` is a share of the axes' width."""
    return axes.text(x, y, said, transform=axes.get_yaxis_transform(), va="center", size=8.5)


def _draw_lines(axes: Axes, chart: LineChart) -> None:
    if chart.log_x:
        axes.set_xscale("log")
    if chart.log_y:
        axes.set_yscale("log")
    for place, line in enumerate(chart.lines):
        colour, mark = STRONG[place % len(STRONG)], MARKS[place % len(MARKS)]
        lone = line.style == "dots"
        axes.plot(
            *(line.x, line.y),
            color=colour,
            linestyle="none" if lone else DASHES[place % len(DASHES)],
            linewidth=1.6,
            drawstyle="steps-post" if line.style == "steps" else "default",
            marker=mark if lone or (line.style == "line" and len(line.x) <= DOTS_MAX) else "none",
            markersize=4.5,
            # A line without points keeps its colour for others' sake, and needs no name.
            label=plain(line.name) if line.x else None,
        )
    for mark_line in chart.marks:
        _mark(axes, mark_line, across=True)
    for mark_line in chart.x_marks:
        _mark(axes, mark_line, across=False)
    for axis, log, name in (
        (axes.xaxis, chart.log_x, chart.x_axis),
        (axes.yaxis, chart.log_y, chart.y_axis),
    ):
        axis.set_label_text(plain(name) + (", logarithmic" if log else ""))
        low, high = sorted(axis.get_view_interval())
        _number(axis, low, high, log=log)
    if not chart.log_y and all(y >= 0 for line in chart.lines for y in line.y):
        axes.set_ylim(bottom=0)
    axes.grid(visible=True)


def _mark(axes: Axes, mark: Mark, *, across: bool) -> None:
    draw = axes.axhline if across else axes.axvline
    draw(
        mark.value,
        color=INK,
        linestyle=(0, (6, 3)),
        linewidth=1.0,
        zorder=2,
        label=plain(mark.name),
    )


def _number(
    axis: XAxis | YAxis, low: float, high: float, *, log: bool, whole: bool = False
) -> None:
    """Ticks at round numbers, written in full."""
    if log:
        decades = math.log10(high / low)
        subs = (1.0, 2.0, 5.0) if decades < 2 else (1.0, 3.0) if decades < 3.5 else (1.0,)
        axis.set_major_locator(LogLocator(subs=subs, numticks=20))
        axis.set_minor_locator(NullLocator())
    else:
        axis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 2.5, 5, 10], integer=whole))
    axis.set_major_formatter(FuncFormatter(lambda value, _place: f"{value:,.6g}"))
