"""Pages: whole in themselves, and nothing in them is markup but their own."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from atoll import __version__
from atoll.report.charts import Bar, BarChart, Bars, Line, LineChart
from atoll.report.html import html
from atoll.report.ink import NAMES
from atoll.report.page import Page, Table

HOSTILE = "<script>alert('x')</script><img src=http://reef.example/x onerror=\"y()\"> & \x1b"
BARS = BarChart("Speed", "tokens a second", ("reef", HOSTILE), (Bars("b", (Bar(1.0), Bar(2.0))),))
LINES = LineChart("Load", "s", "s", (Line(HOSTILE, (1.0,), (2.0,)),), caption="Less is better.")
TABLE = Table(
    "Figures", ("fleet", "W"), (("reef", "10"), (HOSTILE, HOSTILE)), caption=f"In all: {HOSTILE}"
)
PAGE = Page("Fleets", ("One.", HOSTILE), "Thick is half.", (TABLE, BARS, LINES, TABLE, BARS))
VOID = {"meta", "link", "img", "br", "input", "hr"}


class Read(HTMLParser):
    """Tags with their attributes, and what stands between them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def read(text: str) -> Read:
    found = Read()
    found.feed(text)
    assert found.open == []
    return found


def test_a_page_needs_nothing_else() -> None:
    text = html(PAGE)
    tags = read(text).tags
    assert not {tag for tag, _ in tags} & {"script", "link", "img", "iframe", "object", "image"}
    for _, attributes in tags:
        assert not [name for name in attributes if name.startswith("on") or name == "src"]
        assert all(
            link.startswith("#")
            for name in ("href", "xlink:href")
            if (link := attributes.get(name) or "#")
        )
    assert "@import" not in text
    assert set(re.findall(r"url\((.)", text)) <= {"#"}
    # Not even what somebody wrote as an address is one.
    assert re.findall(r'="https?://', text) == []
    assert "default-src 'none'" in text


def test_names_are_shown_as_they_are() -> None:
    found = read(html(PAGE))
    shown = HOSTILE.replace("\x1b", "\ufffd")
    assert shown in "".join(found.words)
    # In the introduction, and three times in each table; labels cut it short.
    assert "".join(found.words).count(shown) == 7


def test_everything_of_the_page_is_there() -> None:
    text = html(PAGE)
    found = read(text)
    words = "".join(found.words)
    for said in (
        "Fleets",
        "One.",
        "Thick is half.",
        "Figures",
        "In all: <",
        "Less is better.",
        "10",
    ):
        assert said in words
    assert f"atoll {__version__}" in words
    tags = [tag for tag, _ in found.tags]
    assert tags.count("svg") == tags.count("figure") == 3
    assert tags.count("table") == 2
    # In the order of the page.
    assert [tag for tag in tags if tag in ("table", "figure")] == [
        *("table", "figure", "figure", "table", "figure"),
    ]


def test_parts_have_names_of_their_own() -> None:
    names = [attributes["id"] for _, attributes in read(html(PAGE)).tags if "id" in attributes]
    assert len(names) == len(set(names)) > 3


def test_every_colour_has_one_for_the_dark() -> None:
    light, dark = html(PAGE).split("prefers-color-scheme: dark")
    for name in NAMES.values():
        assert f"--{name}: " in light
        assert f"--{name}: " in dark
    used = set(re.findall(r"var\(--([\w-]+)\)", light + dark))
    assert used <= {*NAMES.values(), "behind"}


def test_the_same_page_is_the_same_bytes() -> None:
    assert html(PAGE) == html(PAGE)


def test_a_page_without_charts() -> None:
    text = html(Page("Fleets", (), "Thick is half.", (TABLE,)))
    assert "Thick is half." not in text
    assert "<svg" not in text
