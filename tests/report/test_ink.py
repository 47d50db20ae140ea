"""Pictures as bytes: the same each time, readable as text, and safe in a page."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from atoll.report.ink import (
    DASHES,
    HATCHES,
    INK,
    MARKS,
    PALE,
    STRONG,
    inline_svg,
    plain,
    png,
    style,
    svg,
)

HOSTILE = '<script>alert(1)</script> & "x" id="patch_1" url(#x) #1f2328'


def picture(words: str = "tokens") -> Figure:
    with style():
        figure = Figure(figsize=(3, 2))
        axes = figure.subplots()
        axes.plot([1, 2], [3, 4], marker="o", label=words)
        axes.barh([1], [2], color=PALE[0], hatch="////", edgecolor=INK)
        axes.set_title(words)
    return figure


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_words_stay_words_and_nothing_tells_the_day() -> None:
    text = svg(picture(), "Speed")
    assert ">tokens</text>" in text
    assert "<title>Speed</title>" in text
    assert "metadata" not in text
    assert "DOCTYPE" not in text
    # Only names of XML's namespaces look like addresses.
    assert set(re.findall(r"https?://[^\"]+", text)) == {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert text == svg(picture(), "Speed")


def test_hostile_words_are_words() -> None:
    root = ElementTree.fromstring(svg(picture(HOSTILE), HOSTILE))
    assert HOSTILE in [element.text for element in root.iter()]
    assert not [element for element in root.iter() if element.tag.endswith("script")]


def test_in_a_page_a_picture_has_names_of_its_own_and_colours_of_the_page() -> None:
    element = inline_svg(svg(picture(HOSTILE), "Speed"), "chart-7")
    root = ElementTree.fromstring(element)
    assert root.tag == "svg"
    assert root.get("role") == "img"
    assert root.get("width") is None
    assert root.get("viewBox")
    names = [element.get("id", "") for element in root.iter() if element.get("id")]
    assert names
    assert all(name.startswith("chart-7-") for name in names)
    assert len(names) == len(set(names))
    pointed = re.findall(r'href="#([^"]+)"', element) + re.findall(r"url\(#(chart[^)]+)\)", element)
    assert pointed
    assert set(pointed) <= set(names)
    assert "var(--ink)" in element
    assert "<style" not in element
    assert "http" not in element
    # What is said is not changed with the names and colours around it.
    assert HOSTILE in [element.text for element in root.iter()]


def test_a_bitmap() -> None:
    made = png(picture())
    assert made.startswith(b"\x89PNG\r\n")
    assert made == png(picture())
    assert b"Software" not in made


def test_the_users_settings_of_matplotlib_do_not_count() -> None:
    usual = svg(picture(), "Speed")
    with mpl.rc_context({"font.size": 40.0, "svg.fonttype": "path", "text.parse_math": True}):
        assert svg(picture(), "Speed") == usual
        # And theirs are as they were.
        assert mpl.rcParams["font.size"] == 40.0


def test_a_letter_that_the_font_lacks_is_no_problem(recwarn: pytest.WarningsRecorder) -> None:
    assert "\u8a9e" in svg(picture("\u8a9e"), "Speed")
    assert png(picture("\u8a9e"))
    assert not list(recwarn)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("8 x H100", "8 x H100"),
        ("a\n b\tc", "a b c"),
        ("\x1b[31mred\x00", "\ufffd[31mred\ufffd"),
        ("\udcff\uffff", "\ufffd\ufffd"),
        ("\u8a9e \u00e9", "\u8a9e \u00e9"),
    ],
)
def test_what_no_document_may_hold(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_lines_differ_in_more_than_colour() -> None:
    assert len(set(MARKS)) == len(MARKS) == len(STRONG)
    assert len(set(DASHES)) == len(DASHES)
    assert len(set(HATCHES)) == len(HATCHES)


def test_whiskers_are_seen_on_bars() -> None:
    for colour in PALE:
        assert (luminance(colour) + 0.05) / (luminance(INK) + 0.05) > 7


def test_pictures_need_no_screen() -> None:
    source = Path(__file__).parents[2] / "src" / "atoll" / "report"
    assert [
        path.name for path in source.glob("*.py") if "import matplotlib.pyplot" in path.read_text()
    ] == []
