"""How pictures look, and how they become bytes that are the same each time.

Importing this imports matplotlib, which is slow and may be missing: `files` does it, when a
picture is wanted. Never pyplot, which keeps figures and asks for a screen.

Colours: Okabe and Ito's, which colour-blind people tell apart ("Color Universal Design", 2008,
https://jfly.uni-koeln.de/color/). None of them is needed: lines differ in marks and dashes,
bars in hatching, and all have their names.
"""

from __future__ import annotations

import io
import re
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

INK = "#1f2328"
MUTED = "#5b6470"
GRID = "#dfe3e8"
PAPER = "#ffffff"
STRONG = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Of lines and dots."""
PALE = ("#8cc8ee", "#f2c066", "#8fd3bf", "#e9c1d6", "#f7dfa8", "#c3e3f7")
"""Of bars, on which whiskers are seen: the same with white."""
MARKS = ("o", "D", "s", "^", "v", "P")
DASHES = ("-", "--", "-.", ":")
HATCHES = ("", "////", "....", "xxxx")
NAMES = {
    **{INK: "ink", MUTED: "muted", GRID: "grid", PAPER: "paper"},
    **{colour: f"strong-{n}" for n, colour in enumerate(STRONG)},
    **{colour: f"pale-{n}" for n, colour in enumerate(PALE)},
}
"""Colours to the names by which a page may choose others, for the dark."""
DPI = 150
FONT = "DejaVu Sans"
"""The one that comes with matplotlib: pictures are laid out by its widths everywhere."""
FONTS = f"'{FONT}', Verdana, sans-serif"
"""What a document asks for; the others are no wider."""
SETTINGS: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.facecolor": PAPER,
    "axes.labelcolor": INK,
    "axes.labelsize": 9.0,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 11.0,
    "axes.titleweight": "bold",
    "figure.facecolor": PAPER,
    "font.family": [FONT],
    "font.size": 9.0,
    "grid.color": GRID,
    "hatch.linewidth": 0.6,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "savefig.facecolor": PAPER,
    "svg.fonttype": "none",
    "svg.hashsalt": "atoll",
    "text.color": INK,
    # A name with dollar signs is a name.
    "text.parse_math": False,
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
}
_NO_TEXT = frozenset({"Cc", "Cs", "Cn"})


@contextmanager
def style() -> Iterator[None]:
    """Pictures that are made and written inside the block look as they should, whatever the
    user's own settings of matplotlib are.
    """
    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        mpl.rcParams.update(SETTINGS)
        # A letter that the font lacks is another font's in a browser, and a box in a bitmap.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def plain(text: str) -> str:
    """`text` on one line, with U+FFFD for what no document may hold."""
    line = " ".join(text.split())
    return "".join("\ufffd" if unicodedata.category(c) in _NO_TEXT else c for c in line)


def svg(figure: Figure, title: str) -> str:
    """The picture as a document of its own, without a date."""
    out = io.BytesIO()
    about = {"Title": plain(title), "Creator": None, "Date": None, "Format": None, "Type": None}
    with style():
        figure.savefig(out, format="svg", metadata=about)
    # Without the kind of document and what librarians write: addresses that nobody needs.
    text = re.sub(r"<!DOCTYPE[^>]*>\s*", "", out.getvalue().decode(), count=1)
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, count=1, flags=re.DOTALL)
    return _in_tags(text, lambda tag: tag.replace(f"'{FONT}'", FONTS))


def png(figure: Figure) -> bytes:
    """The picture as a bitmap."""
    out = io.BytesIO()
    with style():
        figure.savefig(out, format="png", dpi=DPI, metadata={"Software": None})
    return out.getvalue()


def inline_svg(text: str, name: str) -> str:
    """A picture to stand in a page.

    Args:
        text: What `svg` returned.
        name: Its own in the page: names of its parts begin with it.

    Returns:
        Its element, in colours that the page chooses (`NAMES`), as wide as the page has room.
    """

    def own(tag: str) -> str:
        found = re.sub(r'\s(?:xmlns(?::\w+)?|version)="[^"]*"', "", tag)
        found = re.sub(r'\bid="', f'id="{name}-', found)
        found = re.sub(r'(?:xlink:)?href="#', f'href="#{name}-', found)
        found = found.replace("url(#", f"url(#{name}-")
        return re.sub(
            r"#[0-9a-f]{6}\b",
            lambda colour: f"var(--{NAMES[colour[0]]})" if colour[0] in NAMES else colour[0],
            found,
        )

    element = _in_tags(text[text.index("<svg") :], own)
    # A rule for all elements of the page, where it stands in one.
    element = re.sub(
        r"\s*<defs>\s*<style.*?</style>\s*</defs>", "", element, count=1, flags=re.DOTALL
    )
    root = '<svg role="img" stroke-linejoin="round"'
    return re.sub(r'^<svg width="[^"]*" height="[^"]*"', root, element).strip()


def _in_tags(text: str, change: Callable[[str], str]) -> str:
    """`text` with its tags changed; words between them stay, as `<` in these is escaped."""
    return re.sub(r"<[^<>]*>", lambda match: change(match[0]), text)
