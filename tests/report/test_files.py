"""Reports as files: by their ending, whole or not at all."""

from __future__ import annotations

import builtins
import sys
from pathlib import Path
from typing import Any

import pytest

from atoll.domain.errors import BadRequest
from atoll.report.charts import Bar, BarChart, Bars
from atoll.report.files import check_report, write_report
from atoll.report.page import Page

CHART = BarChart("Speed", "tokens a second", ("reef",), (Bars("b", (Bar(1.0),)),))
PAGE = Page("Fleets", ("What they would do.",), "Thick is half.", (CHART,))
BEGINS = {".html": b"<!doctype html>", ".svg": b"<?xml", ".png": b"\x89PNG", ".HTML": b"<!doctype"}


@pytest.mark.parametrize("ending", BEGINS)
def test_the_ending_says_what_is_written(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"fleets{ending}"
    write_report(path, PAGE)
    assert path.read_bytes().startswith(BEGINS[ending])
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


def test_a_picture_says_what_the_page_says_first(tmp_path: Path) -> None:
    write_report(tmp_path / "a.svg", PAGE)
    text = (tmp_path / "a.svg").read_text("utf-8")
    assert "What they would do. Thick is half." in text


@pytest.mark.parametrize("name", ["fleets", "fleets.pdf", "fleets.html.gz", ".html", "html"])
def test_other_endings(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadRequest, match="cannot be written as") as caught:
        check_report(tmp_path / name)
    assert caught.value.hint == "end its name in .html, .svg or .png"


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="there is no folder"):
        check_report(tmp_path / "away" / "a.html")


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "a.html").mkdir()
    with pytest.raises(BadRequest, match=r"cannot write .*a\.html: Is a directory"):
        write_report(tmp_path / "a.html", PAGE)
    assert [found.name for found in tmp_path.iterdir()] == ["a.html"]


def test_a_page_without_charts_is_no_picture(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="nothing to draw"):
        write_report(tmp_path / "a.png", Page("Fleets", (), "", ()))
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = builtins.__import__

    def blocked(name: str, *rest: Any, **more: Any) -> Any:
        if name.partition(".")[0] == "matplotlib":
            raise ModuleNotFoundError("No module named 'matplotlib'", name=name)
        return usual(name, *rest, **more)

    monkeypatch.delitem(sys.modules, "matplotlib.figure", raising=False)
    monkeypatch.setattr(builtins, "__import__", blocked)
    with pytest.raises(BadRequest, match="charts need matplotlib") as caught:
        write_report(tmp_path / "a.html", PAGE)
    assert caught.value.hint == "pip install 'atoll[charts]'"
    assert list(tmp_path.iterdir()) == []
