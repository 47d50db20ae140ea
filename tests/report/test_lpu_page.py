"""The page to zoom into: one file, whose script may run and nothing else may."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

from tests.lpu.check.sound import TIMING, routine

from atoll.report.lpu_page import page
from atoll.report.lpu_schedule import of_routine

FIRST = of_routine(routine(), TIMING, 0)


class Read(HTMLParser):
    """Tags with their attributes, and the text of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._is_script = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._is_script = tag == "script"
        if self._is_script:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._is_script = False

    def handle_data(self, data: str) -> None:
        if self._is_script:
            self.scripts[-1] += data


def data(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Read(text).scripts[0])
    return found


def test_it_is_one_file() -> None:
    text = page(FIRST)
    for tag, attributes in Read(text).tags:
        assert tag not in ("link", "img", "iframe", "object")
        assert not attributes.keys() & {"src", "href", "onclick", "onload"}
    assert set(re.findall(r"https?://[^\"'<\s]+", text)) == {"http://www.w3.org/2000/svg"}
    assert "@import" not in text


def test_only_its_own_script_may_run() -> None:
    found = Read(page(FIRST))
    [policy] = [a["content"] or "" for t, a in found.tags if t == "meta" and "http-equiv" in a]
    _, script = found.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert [a.get("type") for t, a in found.tags if t == "script"] == ["application/json", None]


def test_its_data_is_the_schedule() -> None:
    found = data(page(FIRST))
    assert [tuple(bar) for bar in found["bars"]] == [
        (b.row, b.kind, b.begin, b.end, round(b.share, 4), b.text) for b in FIRST.bars
    ]
    assert found["texts"] == list(FIRST.texts)
    assert [tuple(row[:2]) for row in found["rows"]] == [row[:2] for row in FIRST.rows]
    named = [row[1] for row in found["rows"] if row[4]]
    assert {"ALU 0", "ALU 15", "plane 0", "plane 1", "switch", "chip 1"} <= set(named)
    assert "ALU 7" not in named
    assert (found["begin"], found["end"], found["hertz"]) == (0, FIRST.end, 900e6)
    assert next(name for name, _, _ in found["groups"]) == "west matrix"
    assert len(found["fills"]) == 4


def test_the_script_knows_every_part_of_the_data_and_the_page() -> None:
    text = page(FIRST)
    _, script = Read(text).scripts
    assert set(re.findall(r"\bdata\.(\w+)", script)) <= data(text).keys()
    ids = {a["id"] for _, a in Read(text).tags if "id" in a}
    assert set(re.findall(r'getElementById\("(\w+)"\)', script)) <= ids


def test_words_are_no_markup() -> None:
    name = '</script><script>alert(1)</script><b "x">&'
    text = page(of_routine(replace(routine(), name=name), TIMING, 0))
    found = Read(text)
    assert len(found.scripts) == 2
    assert "b" not in {tag for tag, _ in found.tags}
    assert name in json.loads(found.scripts[0])["texts"][0]


def test_without_a_script_there_is_the_picture() -> None:
    text = page(FIRST)
    aside = text[text.index("<noscript>") : text.index("</noscript>")]
    assert aside.count("<title>") == 1 + len(FIRST.bars) + len(FIRST.fills)
