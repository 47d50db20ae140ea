"""Pictures: what is in them, whatever they look like."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.container import BarContainer

from atoll.report.charts import Bar, BarChart, Bars, Line, LineChart, Mark
from atoll.report.drawing import drawn, panels
from atoll.report.ink import INK, svg

NEAR = BarChart(
    title="Cost",
    axis="US dollars",
    labels=("reef", "cove", "far"),
    series=(
        Bars(
            "dollars",
            (
                Bar(2.0, (1.8, 2.2), (1.0, 3.0)),
                Bar(3.0, (2.5, 3.5), (2.0, 8.0)),
                Bar(None, note="no price is known"),
            ),
        ),
    ),
    form="{:.2f}",
)
FAR = replace(
    NEAR,
    series=(
        Bars("alone", (Bar(1.0, (0.9, 1.1), (0.5, 1.5)), Bar(100.0), Bar(None, note="too large"))),
        Bars("loaded", (Bar(4.0), Bar(None, note="too late"), Bar(None, note="too large"))),
    ),
    mark=Mark("asked for: 50 ms", 50.0),
)
LINES = LineChart(
    title="Time to the first token",
    x_axis="requests a second",
    y_axis="seconds",
    lines=(
        Line("p50", (1.0, 2.0, 4.0), (0.1, 0.2, 0.4)),
        Line("p99", (1.0, 2.0, 4.0), (0.5, 1.0, 9.0)),
    ),
    log_x=True,
    log_y=True,
    marks=(Mark("asked for: 1 s", 1.0),),
)


def axes_of(chart: BarChart | LineChart) -> Axes:
    [axes] = drawn(chart).axes
    return axes


def said(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def floats(data: object) -> list[float]:
    return [float(value) for value in np.asarray(data)]


def spans(axes: Axes) -> dict[tuple[float, float], float]:
    """Lines between two points, and how wide they are."""
    ends = {line: floats(line.get_xdata()) for line in axes.lines}
    return {(x[0], x[1]): line.get_linewidth() for line, x in ends.items() if len(x) == 2}


def test_a_chart_says_what_it_shows_in_which_unit() -> None:
    axes = axes_of(NEAR)
    assert axes.get_title(loc="left") == "Cost"
    assert axes.get_xlabel() == "US dollars"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["reef", "cove", "far"]
    # The first label is on top.
    assert axes.yaxis_inverted()
    assert said(axes) == ["2.00", "3.00", "no price is known"]
    lines = axes_of(LINES)
    assert lines.get_xlabel() == "requests a second, logarithmic"
    assert lines.get_ylabel() == "seconds, logarithmic"


def test_bars_end_at_their_values_and_whiskers_at_theirs() -> None:
    axes = axes_of(NEAR)
    [bars] = axes.containers
    assert isinstance(bars, BarContainer)
    assert [bar.get_width() for bar in bars] == [2.0, 3.0]
    widths = spans(axes)
    assert set(widths) == {(1.0, 3.0), (1.8, 2.2), (2.0, 8.0), (2.5, 3.5)}
    assert widths[1.8, 2.2] > 2 * widths[1.0, 3.0]
    assert axes.get_xlim()[0] == 0
    assert axes.get_xlim()[1] > 8


def test_values_far_apart_are_dots_on_a_logarithmic_axis() -> None:
    axes = axes_of(FAR)
    assert axes.get_xscale() == "log"
    assert axes.get_xlabel() == "US dollars, logarithmic"
    assert not axes.containers
    dots = {line.get_label(): floats(line.get_xdata()) for line in axes.lines}
    assert dots["alone"] == [1.0, 100.0]
    assert dots["loaded"] == [4.0]
    assert {(0.5, 1.5), (0.9, 1.1)} <= set(spans(axes))
    low, high = axes.get_xlim()
    assert 0 < low < 0.5
    assert high > 100
    assert axes_of(NEAR).get_xscale() == "linear"


def test_series_differ_without_colour() -> None:
    near = replace(FAR, series=tuple(Bars(b.name, (Bar(1.0),) * 3) for b in FAR.series))
    hatches = {bars[0].get_hatch() for bars in axes_of(near).containers}
    assert len(hatches) == 2
    far = [
        line.get_marker() for line in axes_of(FAR).lines if line.get_label() in ("alone", "loaded")
    ]
    assert len(set(far)) == 2
    drawn_lines = axes_of(LINES).lines[:2]
    assert len({(line.get_marker(), line.get_linestyle()) for line in drawn_lines}) == 2


def test_why_a_bar_is_missing_is_said_once_for_a_label() -> None:
    assert sorted(said(axes_of(FAR))) == ["1.00", "100.00", "4.00", "too large", "too late"]


def test_a_mark_is_named_and_within_the_axis() -> None:
    axes = axes_of(replace(NEAR, mark=Mark("asked for: 20", 20.0)))
    legend = axes.get_legend()
    assert legend is not None
    assert "asked for: 20" in [text.get_text() for text in legend.get_texts()]
    assert axes.get_xlim()[1] > 20
    across = axes_of(LINES).lines[-1]
    assert floats(across.get_ydata()) == [1.0, 1.0]
    assert across.get_color() == INK
    upright = axes_of(replace(LINES, x_marks=(Mark("then", 2.0),))).lines[-1]
    assert floats(upright.get_xdata()) == [2.0, 2.0]


def test_a_line_without_points_keeps_its_colour_and_has_no_name() -> None:
    empty = Line("nothing", (), ())
    whole = axes_of(LINES).lines[1]
    first, second = LINES.lines[:2]
    axes = axes_of(replace(LINES, lines=(empty, second)))
    assert axes.lines[1].get_color() == whole.get_color()
    legend = axes.get_legend()
    names = [text.get_text() for text in legend.get_texts()] if legend else []
    assert first.name not in names
    assert "nothing" not in names


def test_one_series_needs_no_legend() -> None:
    assert axes_of(NEAR).get_legend() is None


def test_a_whisker_without_an_end_goes_to_the_edge() -> None:
    bars = (Bar(1.0, None, (0.5, math.inf)), Bar(2.0), Bar(3.0))
    axes = axes_of(replace(NEAR, series=(Bars("b", bars),)))
    assert (0.5, axes.get_xlim()[1]) in spans(axes)


def test_steps_hold_until_the_next_point() -> None:
    axes = axes_of(
        replace(
            LINES, lines=(Line("ttft", (1.0, 1.0, 2.0, 3.0), (0.0, 1 / 3, 2 / 3, 1.0), "steps"),)
        )
    )
    [line, _mark] = axes.lines
    assert line.get_drawstyle() == "steps-post"
    assert line.get_marker() == "none"


def test_dots_are_not_joined() -> None:
    axes = axes_of(replace(LINES, lines=(Line("seen", (1.0, 2.0), (3.0, 4.0), "dots"),)))
    assert axes.lines[0].get_linestyle() == "None"
    assert axes.lines[0].get_marker() not in ("None", "none")


@pytest.mark.parametrize(
    "chart",
    [
        replace(NEAR, labels=(), series=(Bars("b", ()),)),
        replace(NEAR, series=(Bars("b", (Bar(None, note="why"),) * 3),)),
        replace(NEAR, series=(Bars("b", (Bar(0.0),) * 3),)),
        replace(LINES, lines=()),
        replace(LINES, lines=(Line("none", (), (), "steps"),), log_x=False, log_y=False),
        replace(NEAR, title="$\\frac{", labels=("$x_{", "<b>", "\x00\ud800"), form="${:.0f}$"),
        replace(NEAR, labels=("a" * 300, "b " * 300, "\u8a9e" * 40)),
    ],
)
def test_odd_charts_are_drawn(chart: BarChart | LineChart) -> None:
    assert "<svg" in svg(drawn(chart), chart.title)


def test_labels_are_within_the_picture() -> None:
    figure = drawn(replace(NEAR, labels=("a name of some thirty letters", "b" * 200, "c")))
    [axes] = figure.axes
    for text in (*axes.get_yticklabels(), *axes.texts, axes.title):
        box = text.get_window_extent()
        assert box.x0 >= -1
        assert box.x1 <= figure.bbox.width + 1
    boxes = [label.get_window_extent() for label in axes.get_yticklabels()]
    assert all(upper.y0 >= lower.y1 for upper, lower in pairwise(boxes))


def test_panels_stand_in_rows() -> None:
    figure = panels((NEAR, FAR, LINES), title="All", note="How to read it. " * 40)
    assert len(figure.axes) == 3
    first, second, third = (axes.get_position() for axes in figure.axes)
    assert first.x1 < second.x0
    assert third.y1 < first.y0
    assert figure.get_suptitle() == "All"
    assert figure.get_supxlabel().count("\n") >= 2
    assert panels((NEAR,), title="").get_figwidth() * 2 == figure.get_figwidth()


def test_the_same_chart_is_the_same_bytes() -> None:
    once = svg(panels((NEAR, FAR, LINES), title="All"), "All")
    assert once == svg(panels((NEAR, FAR, LINES), title="All"), "All")
    other = replace(NEAR, labels=("reef", "cove", "near"))
    assert once != svg(panels((other, FAR, LINES), title="All"), "All")
