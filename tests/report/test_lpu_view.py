"""Which part of a decoder is drawn, and where it goes."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from tests.support.lpu_small import SMALL, timing_of

from atoll.domain.errors import BadRequest
from atoll.lpu.compiler.chips.place import Placed, Wanted, place_decoder
from atoll.lpu.topology import build, shipped_systems
from atoll.report.lpu_view import View, check_file, timeline_of, write_file


@pytest.fixture(scope="module")
def placed() -> Placed:
    wanted = Wanted(shape=SMALL, chips=8, context=40, stored="f16", width=2)
    node = build(shipped_systems().find("GroqNode"))
    return place_decoder(timing_of(words=800), node, wanted)


def phases(placed: Placed, view: View, chip: int = 0) -> list[tuple[str, int, int]]:
    found = timeline_of(placed, view, chip)
    assert found.rows[0].group == "phase"
    return [(found.texts[bar.text], bar.begin, bar.end) for bar in found.bars if bar.row == 0]


def test_a_layer_is_its_blocks_one_after_the_other(placed: Placed) -> None:
    found = timeline_of(placed, "layer", 1)
    assert found.title == (
        f"Small, weights of f16: a layer on chip 1 of 2, {placed.layer_cycles:,} cycles"
    )
    assert (found.begin, found.end) == (0, placed.layer_cycles)
    names = [name for name, _, _ in phases(placed, "layer")]
    assert names[0] == "norm"
    assert names.count("norm") == names.count("output and sum over chips") == 2
    first = placed.compiled.routines["attention"].cycles
    second = phases(placed, "feed-forward")
    assert phases(placed, "layer")[-len(second) :] == [
        (name, begin + first, end + first) for name, begin, end in second
    ]


@pytest.mark.parametrize("view", ["attention", "feed-forward", "head"])
def test_phases_follow_each_other(placed: Placed, view: View) -> None:
    found = phases(placed, view)
    assert found[0][1] == 0
    assert all(one[2] == other[1] for one, other in pairwise(found))
    assert found[-1][2] <= placed.compiled.routines[view].cycles


def test_a_token_on_a_chip(placed: Placed) -> None:
    assert len(placed.groups) > 1
    chip = placed.groups[-1][0]
    found = phases(placed, "token", chip)
    steps = [step for step in placed.program.steps if chip in step.chips]
    assert [begin for _, begin, _ in found] == [step.at for step in steps]
    assert {name for name, _, _ in found} >= {"head", "feed-forward, layer 3"}
    assert f"token on chip {chip} of 8" in timeline_of(placed, "token", chip).title


def test_bars_of_units_stay_in_their_rows(placed: Placed) -> None:
    found = timeline_of(placed, "attention")
    assert all(bar.kind in found.rows[bar.row].kinds for bar in found.bars)
    assert all("streams" in found.rows[fill.row].group for fill in found.fills)


def test_chips_that_are_not_there(placed: Placed) -> None:
    with pytest.raises(BadRequest, match="2 chips share a layer, and 2 is none"):
        timeline_of(placed, "layer", 2)
    with pytest.raises(BadRequest, match="GroqNode has no chip 8"):
        timeline_of(placed, "token", 8)
    with pytest.raises(BadRequest, match="does nothing"):
        timeline_of(placed, "token", 7)


def test_files(placed: Placed, tmp_path: Path) -> None:
    found = timeline_of(placed, "attention")
    write_file(tmp_path / "a.svg", found)
    write_file(tmp_path / "a.HTML", found)
    picture = (tmp_path / "a.svg").read_text()
    assert picture.startswith("<svg")
    assert ">norm</text>" in picture
    page = (tmp_path / "a.HTML").read_text()
    assert page.startswith("<!doctype html>")
    assert '"greatest scores"' in page
    with pytest.raises(BadRequest, match=r"a\.pdf"):
        check_file(tmp_path / "a.pdf")
    with pytest.raises(BadRequest, match="no folder"):
        check_file(tmp_path / "b" / "a.svg")
    (tmp_path / "c.svg").mkdir()
    with pytest.raises(BadRequest, match="cannot write"):
        write_file(tmp_path / "c.svg", found)
