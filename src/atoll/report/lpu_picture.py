"""A chip's schedule as one picture, time across and units down: SVG that needs nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from itertools import groupby

from atoll.report.lpu_schedule import KINDS, Bar, Fill, Kind, Timeline

COLOURS: dict[Kind, str] = {
    "read": "#0072b2",
    "write": "#d55e00",
    "load": "#e69f00",
    "multiply": "#009e73",
    "switch": "#cc79a7",
    "vector": "#56b4e9",
    "send": "#7a4fb5",
    "receive": "#b08d00",
    "phase": "#c3cad3",
}
"""The first six are Okabe and Ito's. Kinds that share a row have a half of it each, so that
nobody needs the colours to tell them apart.
"""
STREAM_COLOUR = "#8a94a1"
STREAM_WORDS = "share of stream registers in use"
HEIGHTS = {
    "phase": 18,
    "matrix": 14,
    "switch": 12,
    "memory": 8,
    "streams": 22,
    "unit": 7,
    "links": 14,
}
"""Of a row, by the last word of its group."""
GROUP_GAP = 9
NAME_HEIGHT = 11
"""Rows less high than this have no name each, but the first and last of their group."""
LETTER_WIDTH = 5.9
"""At most so wide is a letter, on average: longer names of phases than their bars are not written.
"""
PLOT_LEFT, PLOT_WIDTH, MARGIN = 190, 1000, 16
WIDTH = PLOT_LEFT + PLOT_WIDTH + MARGIN
LEAST_WIDTH = 2.0
"""Shorter bars become one with those beside them."""
PALEST = 0.35
LEGEND_COLUMNS = 5
READING = (
    "A chip from its west edge (top) over its middle, the vector unit, to its east edge (bottom).",
    "Vectors of 320 bytes move along it one register a cycle, inward or outward, so what one unit "
    "gives another takes some cycles later.",
    "A bar: the unit is busy with an instruction; paler where it is so in few of the cycles. "
    "Nothing waits: every cycle was fixed before the program ran.",
)


@dataclass(frozen=True, slots=True)
class Band:
    """Where a row lies: its upper end and its height."""

    top: int
    height: int


def bands(timeline: Timeline) -> tuple[Band, ...]:
    """Of each row, from 0 downward, with gaps between groups."""
    found: list[Band] = []
    at = 0
    for _, group in groupby(timeline.rows, key=lambda row: row.group):
        at += GROUP_GAP * bool(found)
        for row in group:
            height = HEIGHTS[row.group.split()[-1]]
            found.append(Band(at, height))
            at += height
    return tuple(found)


def part(timeline: Timeline, bar: Bar) -> tuple[float, float]:
    """Which part of its row a bar takes: the upper end and the height, of 1."""
    kinds = timeline.rows[bar.row].kinds
    return kinds.index(bar.kind) / len(kinds), 1 / len(kinds)


def said(timeline: Timeline, bar: Bar) -> str:
    """What a bar is, for whoever points at it."""
    row = timeline.rows[bar.row]
    text = timeline.texts[bar.text]
    if bar.bursts > 1:
        text = f"{bar.bursts} instructions ({KINDS[bar.kind]}), the first: {text}"
    last = bar.end - 1
    when = f"cycle {bar.begin}" if last == bar.begin else f"cycles {bar.begin} to {last}"
    where = ", ".join(filter(None, (row.group, row.name, when)))
    return f"{where}: {text}"


def written(text: str) -> str:
    """Text as it stands in a document, on one line; U+FFFD for what none may hold."""
    line = " ".join(text.split())
    return escape("".join(c if c.isprintable() else "\ufffd" for c in line))


def ticks(begin: float, end: float, most: int = 10) -> list[float]:
    """Round numbers between two, at most so many and one."""
    least = max(end - begin, 1e-12) / most
    power = 10.0 ** math.floor(math.log10(least))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= least * (1 - 1e-9))
    first = math.ceil(begin / step - 1e-9)
    return [n * step for n in range(first, math.floor(end / step + 1e-9) + 1)]


def svg(timeline: Timeline) -> str:
    """The picture; bars too near each other to be told apart are one."""
    rows = bands(timeline)
    kinds = [kind for kind in KINDS if any(bar.kind == kind for bar in timeline.bars)]
    legend = -(-(len(kinds) + 1) // LEGEND_COLUMNS)
    top = 48 + 16 * len(READING) + 20 * legend + 26
    bottom = rows[-1].top + rows[-1].height
    height = top + bottom + 54
    body = [
        *_head(timeline, kinds),
        f'<g transform="translate({PLOT_LEFT} {top})">',
        *_scale(timeline, bottom),
        *_names(timeline, rows),
        *(_fill(timeline, fill, rows[fill.row]) for fill in timeline.fills),
        *_bars(timeline, rows),
        "</g>",
    ]
    colours = "".join(f".{kind}{{fill:{colour}}}" for kind, colour in COLOURS.items())
    style = (
        "text{font-family:'DejaVu Sans',Verdana,sans-serif;font-size:10px;fill:#1f2328}"
        ".title{font-size:16px;font-weight:bold}.muted{fill:#5b6470}.group{font-weight:bold}"
        f".stream{{fill:{STREAM_COLOUR}}}{colours}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {WIDTH} {height}"'
        f' width="{WIDTH}" height="{height}">\n<title>{written(timeline.title)}</title>\n'
        f'<style>{style}</style>\n<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>\n'
        + "\n".join(body)
        + "\n</svg>\n"
    )


def _head(timeline: Timeline, kinds: list[Kind]) -> Iterator[str]:
    yield f'<text class="title" x="{MARGIN}" y="28">{written(timeline.title)}</text>'
    for n, sentence in enumerate(READING):
        yield f'<text class="muted" x="{MARGIN}" y="{48 + 16 * n}">{written(sentence)}</text>'
    named = [*((kind, KINDS[kind]) for kind in kinds), ("stream", STREAM_WORDS)]
    column = (WIDTH - 2 * MARGIN) / LEGEND_COLUMNS
    for n, (name, words) in enumerate(named):
        x = MARGIN + n % LEGEND_COLUMNS * column
        y = 56 + 16 * len(READING) + n // LEGEND_COLUMNS * 20
        yield f'<rect class="{name}" x="{x:.1f}" y="{y - 9}" width="16" height="10"/>'
        yield f'<text x="{x + 22:.1f}" y="{y}">{written(words)}</text>'


def _x(timeline: Timeline, cycle: float) -> float:
    return (cycle - timeline.begin) / max(1, timeline.end - timeline.begin) * PLOT_WIDTH


def _scale(timeline: Timeline, bottom: int) -> Iterator[str]:
    """Both axes of time: cycles below, microseconds above."""
    for cycle in ticks(timeline.begin, timeline.end):
        x = _x(timeline, cycle)
        yield f'<path d="M{x:.1f} 0V{bottom + 5}" stroke="#dfe3e8"/>'
        yield f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{cycle:,.0f}</text>'
    microseconds = 1e6 / timeline.hertz
    for at in ticks(timeline.begin * microseconds, timeline.end * microseconds):
        x = _x(timeline, at / microseconds)
        yield f'<path d="M{x:.1f} -6V0" stroke="#8a94a1"/>'
        yield f'<text class="muted" x="{x:.1f}" y="-10" text-anchor="middle">{at:.6g} µs</text>'
    axis = time_axis(timeline)
    yield f'<text x="{PLOT_WIDTH / 2}" y="{bottom + 38}" text-anchor="middle">{axis}</text>'


def time_axis(timeline: Timeline) -> str:
    """The name of the axis of time, with the length of a cycle."""
    cycle_ns, mhz = 1e9 / timeline.hertz, timeline.hertz / 1e6
    return f"time, cycles of {cycle_ns:.3g} ns ({mhz:,.0f} MHz); above, microseconds"


def _names(timeline: Timeline, rows: tuple[Band, ...]) -> Iterator[str]:
    places = list(zip(timeline.rows, rows, strict=True))
    for group, of in groupby(places, key=lambda place: place[0].group):
        own = list(of)
        top, end = own[0][1].top, own[-1][1].top + own[-1][1].height
        yield (
            f'<rect y="{top}" width="{PLOT_WIDTH}" height="{end - top}" fill="#f4f6f8"'
            ' fill-opacity="0.8"/>'
        )
        x, y = MARGIN - PLOT_LEFT, (top + end) / 2 + 3.5
        yield f'<text class="group" x="{x}" y="{y:.1f}">{written(group)}</text>'
        small = own[0][1].height < NAME_HEIGHT
        for row, band in [own[0], own[-1]] if small else own:
            y = band.top + band.height / 2 + 3.5
            name = written(row.name)
            yield f'<text class="muted" x="-6" y="{y:.1f}" text-anchor="end">{name}</text>'


def _fill(timeline: Timeline, fill: Fill, band: Band) -> str:
    """Steps of as many samples as the picture has room for."""
    joined = max(1, round(len(fill.shares) / PLOT_WIDTH))
    base = band.top + band.height
    path = [f"M0 {base}"]
    for n in range(0, len(fill.shares), joined):
        own = fill.shares[n : n + joined]
        y = base - sum(own) / len(own) * band.height
        end = min(timeline.end, timeline.begin + (n + len(own)) * fill.every)
        path.append(f"V{y:.2f}H{_x(timeline, end):.2f}")
    words = f"{timeline.rows[fill.row].group}, {timeline.rows[fill.row].name}: {STREAM_WORDS}"
    return f'<path class="stream" d="{"".join(path)}V{base}Z"><title>{words}</title></path>'


def _bars(timeline: Timeline, rows: tuple[Band, ...]) -> Iterator[str]:
    cycles = LEAST_WIDTH * (timeline.end - timeline.begin) / PLOT_WIDTH
    for bar in timeline.merged(cycles):
        band = rows[bar.row]
        above, share = part(timeline, bar)
        x = _x(timeline, bar.begin)
        width = max(0.6, _x(timeline, bar.end) - x)
        opacity = PALEST + (1 - PALEST) * bar.share
        yield (
            f'<rect class="{bar.kind}" x="{x:.2f}" y="{band.top + above * band.height:.1f}"'
            f' width="{width:.2f}" height="{share * band.height - 0.5:.1f}"'
            f' fill-opacity="{opacity:.2f}"><title>{written(said(timeline, bar))}</title></rect>'
        )
        name = timeline.texts[bar.text]
        if bar.kind == "phase":
            # A line where one ends: neighbours are of one colour.
            end = x + width
            yield f'<path d="M{end:.2f} {band.top}v{band.height - 0.5}" stroke="#ffffff"/>'
            if len(name) * LETTER_WIDTH < width:
                y = band.top + band.height / 2 + 3.5
                middle = x + width / 2
                yield f'<text x="{middle:.1f}" y="{y}" text-anchor="middle">{written(name)}</text>'
