"""A chip's schedule as a page to zoom into: one file, with its own script and nothing else.

Without a script the page shows the still picture.
"""

from __future__ import annotations

import base64
import hashlib
import json
from importlib import resources
from itertools import groupby

from jinja2 import Environment, StrictUndefined

from atoll import __version__
from atoll.report.lpu_picture import (
    COLOURS,
    NAME_HEIGHT,
    PALEST,
    READING,
    STREAM_COLOUR,
    STREAM_WORDS,
    Band,
    bands,
    svg,
    time_axis,
)
from atoll.report.lpu_schedule import KINDS, Timeline


def page(timeline: Timeline) -> str:
    """The page; no word of the schedule is taken for markup."""
    folder = resources.files("atoll.report")
    script = folder.joinpath("lpu_page.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    used = {bar.kind for bar in timeline.bars}
    legend = [(COLOURS[kind], words) for kind, words in KINDS.items() if kind in used]
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    template = environment.from_string(folder.joinpath("lpu_page.html").read_text("utf-8"))
    return template.render(
        title=timeline.title,
        reading=READING,
        legend=[*legend, (STREAM_COLOUR, STREAM_WORDS)],
        picture=svg(timeline),
        data=_data(timeline),
        script=script,
        script_hash=f"sha256-{digest}",
        version=__version__,
    )


def _data(timeline: Timeline) -> str:
    """What the script draws, as JSON that may stand in a document."""
    rows = bands(timeline)
    found = {
        "begin": timeline.begin,
        "end": timeline.end,
        "hertz": timeline.hertz,
        "axis": time_axis(timeline),
        "height": rows[-1].top + rows[-1].height,
        "palest": PALEST,
        "streamColour": STREAM_COLOUR,
        "kinds": {kind: (COLOURS[kind], words) for kind, words in KINDS.items()},
        "groups": _groups(timeline, rows),
        "rows": _rows(timeline, rows),
        "bars": [
            (bar.row, bar.kind, bar.begin, bar.end, round(bar.share, 4), bar.text)
            for bar in timeline.bars
        ],
        "fills": [(fill.row, fill.every, fill.shares) for fill in timeline.fills],
        "texts": timeline.texts,
    }
    return json.dumps(found, separators=(",", ":")).replace("<", "\\u003c")


def _groups(timeline: Timeline, rows: tuple[Band, ...]) -> list[tuple[str, int, int]]:
    found = []
    places = zip(timeline.rows, rows, strict=True)
    for name, of in groupby(places, key=lambda place: place[0].group):
        own = [band for _, band in of]
        found.append((name, own[0].top, own[-1].top + own[-1].height - own[0].top))
    return found


def _rows(timeline: Timeline, rows: tuple[Band, ...]) -> list[tuple[object, ...]]:
    """Group, name, upper end, height, whether there is room for the name, kinds."""
    found: list[tuple[object, ...]] = []
    for n, (row, band) in enumerate(zip(timeline.rows, rows, strict=True)):
        around = timeline.rows[max(0, n - 1)], timeline.rows[min(len(rows) - 1, n + 1)]
        is_inside = all(other.group == row.group for other in around)
        is_named = band.height >= NAME_HEIGHT or not is_inside
        found.append((row.group, row.name, band.top, band.height, is_named, row.kinds))
    return found
