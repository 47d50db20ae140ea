"""The still picture: bars, names, axes, and words that are no markup."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from tests.lpu.check.sound import TIMING, routine

from atoll.lpu.program import Flow, Read, Routine
from atoll.report.lpu_picture import COLOURS, PLOT_WIDTH, bands, said, svg, ticks, written
from atoll.report.lpu_schedule import KINDS, of_routine

SVG = "{http://www.w3.org/2000/svg}"
FIRST = of_routine(routine(), TIMING, 0)


def drawn_bars(text: str) -> list[ET.Element]:
    """Rectangles with a title: those of the legend and behind have none."""
    root = ET.fromstring(text)
    return [r for r in root.iter(f"{SVG}rect") if r.find(f"{SVG}title") is not None]


def words(text: str) -> list[str]:
    return [node.text or "" for node in ET.fromstring(text).iter(f"{SVG}text")]


def test_every_bar_is_drawn_and_says_what_it_is() -> None:
    found = drawn_bars(svg(FIRST))
    assert len(found) == len(FIRST.bars) == 12
    titles = [bar.findtext(f"{SVG}title") or "" for bar in found]
    assert any(
        title.startswith("west matrix, plane 0, cycles 13 to 32: sound: Load int8")
        for title in titles
    )
    kinds = [bar.get("class") for bar in found]
    assert kinds.count("read") == 5
    assert kinds.count("vector") == 3


def test_bars_are_where_their_cycles_are() -> None:
    [load] = [bar for bar in drawn_bars(svg(FIRST)) if bar.get("class") == "load"]
    scale = PLOT_WIDTH / (FIRST.end - FIRST.begin)
    assert float(load.get("x", "")) == pytest.approx(13 * scale, abs=0.01)
    assert float(load.get("width", "")) == pytest.approx(20 * scale, abs=0.01)
    assert float(load.get("y", "")) == bands(FIRST)[0].top
    assert float(load.get("height", "")) < bands(FIRST)[0].height / 2


def test_names_axes_and_legend() -> None:
    found = words(svg(FIRST))
    for name in ("west memory", "vector unit", "ALU 15", "plane 1", "slices 40-43", "chip 1"):
        assert name in found
    assert "ALU 7" not in found
    assert {"0", "100", "800"} <= set(found)
    assert "0.5 µs" in found
    assert any("1.11 ns (900 MHz)" in text for text in found)
    assert KINDS["load"] in found
    assert KINDS["receive"] not in found
    assert COLOURS.keys() == KINDS.keys()


def test_words_are_no_markup() -> None:
    name = "<script>&\"'\x00\ud800"
    text = svg(of_routine(replace(routine(), name=name), TIMING, 0))
    assert "<script" not in text
    assert (ET.fromstring(text).findtext(f"{SVG}title") or "").startswith("Schedule of <script>&")
    assert written("a\n b\x07<") == "a b\ufffd&lt;"


def test_many_bursts_are_few_bars() -> None:
    flow = Flow("west", "out", 0, 1)
    code = tuple(
        Read(at=20 * n, count=3, flow=flow, slices=(n % 2 * 4,), address=0) for n in range(5000)
    )
    found = of_routine(Routine("r", (code,), 100_100), TIMING, 0)
    assert len(found.bars) == 5000
    shown = drawn_bars(svg(found))
    assert 1 <= len(shown) <= 2 * PLOT_WIDTH // 2
    titles = [bar.findtext(f"{SVG}title") or "" for bar in shown]
    counts = [re.search(r": (\d+) instructions \(memory is read\)", title) for title in titles]
    assert sum(int(found[1]) if found else 1 for found in counts) == 5000


def test_what_a_bar_says() -> None:
    bar = FIRST.bars[0]
    assert said(FIRST, bar._replace(end=bar.begin + 1)).startswith(
        "west matrix, plane 0, cycle 13: "
    )
    many = said(FIRST, bar._replace(bursts=7))
    assert "7 instructions (weights enter a matrix plane), the first: sound: Load" in many


def test_ticks_are_round() -> None:
    assert ticks(0, 900) == [100 * n for n in range(10)]
    assert ticks(13, 27, 3) == [15, 20, 25]
    assert ticks(0, 0.9) == pytest.approx([0.1 * n for n in range(10)])
    assert len(ticks(0, 1_234_567)) <= 11


def test_nothing_outside_is_asked_for() -> None:
    text = svg(FIRST)
    assert re.findall(r"https?://[^\"'<\s]+", text) == ["http://www.w3.org/2000/svg"]
    assert svg(FIRST) == text
