"""What the pictures of the documentation have in common."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pygal
from pygal.style import Style

FOLDER = Path(__file__).parent / "explanation" / "figures"
STYLE = Style(background="white", plot_background="white", font_family="sans-serif")


def chart(kind: type, title: str, **more: object) -> pygal.graph.graph.Graph:
    """An empty picture of the project's size and colours; `more` is pygal's."""
    made = kind(
        title=title,
        style=STYLE,
        width=760,
        height=340,
        js=(),
        legend_at_bottom=True,
        disable_xml_declaration=True,
        **more,
    )
    # By chance, if nobody says: pictures would differ from one drawing to the next.
    made.uuid = title.replace(" ", "-").replace("(", "").replace(")", "").replace(",", "")
    return made


def text(made: pygal.graph.graph.Graph) -> str:
    """The picture as SVG, the same at each drawing."""
    # Without the library's comments: one of them is the day of drawing.
    return re.sub(r"<!--.*?-->", "", str(made.render(is_unicode=True)), flags=re.DOTALL) + "\n"


def written(figures: Mapping[str, str], arguments: Sequence[str]) -> int:
    """Write pictures by name; with `--check` only look, and return 1 if one is not current."""
    FOLDER.mkdir(exist_ok=True)
    stale = 0
    for name, svg in figures.items():
        path = FOLDER / name
        if "--check" not in arguments:
            path.write_text(svg, "utf-8")
        elif not path.exists() or path.read_text("utf-8") != svg:
            print(f"{name} is not current", file=sys.stderr)
            stale = 1
    return stale
