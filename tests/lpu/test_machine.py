"""The LPU's derived figures against published totals, and times that follow from places."""

from __future__ import annotations

from importlib import resources

import pytest

from atoll.domain.errors import BadRequest
from atoll.lpu.machine import Chip, parse_chip, shipped_chips
from atoll.lpu.parts import Place

TSP = shipped_chips().find("Groq LPU v1")
LP30 = shipped_chips().find("LP30")
PAPER_TIB = 2**10 * 1e9
"""ISCA 2020 writes KiB a cycle at 1 GHz as TiB a second."""


def tsp_text() -> str:
    folder = resources.files("atoll.lpu").joinpath("data")
    return folder.joinpath("tsp.toml").read_text("utf-8")


def test_memory_is_what_both_totals_say() -> None:
    assert TSP.slice_bytes == 2.5 * 2**20
    assert TSP.sram_bytes == 220 * 2**20
    assert TSP.sram_bytes == pytest.approx(230e6, rel=0.005)


def test_bandwidths_of_the_paper_at_its_clock() -> None:
    chip = TSP.at_figures()
    assert chip.sram_bytes_s == 55 * PAPER_TIB
    assert chip.stream_bytes_s == 20 * PAPER_TIB
    assert chip.fetch_bytes_s == 2.25 * PAPER_TIB
    assert chip.weight_bytes_s == 2 * 10 * PAPER_TIB
    together = chip.sram_bytes_s + chip.stream_bytes_s + chip.fetch_bytes_s
    assert together == pytest.approx(80e12, rel=0.02)


def test_memory_feeds_streams_and_fetches_of_a_hemisphere() -> None:
    chip = TSP.at_figures()
    assert chip.sram_bytes_s / 2 - chip.fetch_bytes_s > chip.stream_bytes_s


def test_peaks() -> None:
    paper = TSP.at_figures()
    assert paper.peak_ops_s("int8") == pytest.approx(820e12, rel=0.002)
    assert TSP.peak_ops_s("int8") == pytest.approx(750e12, rel=0.02)
    assert TSP.peak_ops_s("fp16") == pytest.approx(188e12, rel=0.02)
    assert TSP.macs_cycle("int8") == 409_600
    assert TSP.macs_cycle("fp16") == 102_400
    assert TSP.product("fp16").accumulator == "fp32"
    assert TSP.alus == 5120


def test_all_weights_enter_within_what_is_published() -> None:
    matrix = TSP.matrix
    assert matrix is not None
    assert matrix.load_cycles_max is not None
    assert matrix.planes * matrix.rows * matrix.columns == 409_600
    # A slice reads once in a cycle, so that as many slices as streams send weights.
    farthest = TSP.travel(Place("mem", "east", 44 - matrix.load_streams), Place("mxm", "east"))[1]
    assert TSP.load_cycles(4) == 20
    assert TSP.load_cycles(4) + farthest < matrix.load_cycles_max
    assert TSP.load_cycles(4) * TSP.weight_bytes_cycle == 409_600
    assert (TSP.load_cycles(1), TSP.load_cycles(2), TSP.load_cycles(3)) == (10, 10, 20)
    for planes in (0, 5):
        with pytest.raises(BadRequest, match="4 matrix planes"):
            TSP.load_cycles(planes)


def test_slices_in_their_order() -> None:
    places = list(TSP.places())
    assert len(places) == len(set(places)) == 93
    positions = [TSP.position(place) for place in places]
    assert positions == sorted(positions)
    assert set(positions) == set(range(-13, 14))
    assert positions.count(-11) == positions.count(1) == 4
    assert places[0] == Place("mxm", "west")
    assert places[1] == Place("sxm", "west")
    assert places[2] == Place("mem", "west", 43)
    assert places[46] == Place("vxm", "middle")
    assert places[47] == Place("mem", "east", 0)


def test_ways_follow_from_places() -> None:
    vxm = Place("vxm", "middle")
    assert TSP.travel(vxm, Place("mem", "east", 0)) == ("eastward", 1)
    assert TSP.travel(Place("mxm", "east"), vxm) == ("westward", 13)
    assert TSP.travel(Place("mem", "west", 0), Place("mem", "west", 3))[1] == 0
    assert TSP.travel(Place("mem", "west", 3), Place("mem", "east", 3)) == ("eastward", 2)
    for wrong in (
        Place("mem", "east", 44),
        Place("mem", "east", -1),
        Place("vxm", "east"),
        Place("mem", "middle"),
    ):
        with pytest.raises(BadRequest, match="has no slice"):
            TSP.position(wrong)


def test_delays_are_not_published_and_may_be_assumed() -> None:
    operands, result = Place("vxm", "middle"), Place("mem", "west", 9)
    with pytest.raises(BadRequest, match="functional delay of vxm is not published"):
        TSP.instruction_cycles("vxm", operands, result)
    chip = TSP.assume({"vxm": 4})
    assert chip.instruction_cycles("vxm", operands, result) == 20 + 4 + 3
    assert (chip.assumed, TSP.assumed) == (("vxm",), ())
    assert chip.assume({"vxm": 5, "mxm": 30}).assumed == ("mxm", "vxm")
    with pytest.raises(BadRequest, match="cannot take -1 cycles"):
        TSP.assume({"vxm": -1})
    with pytest.raises(BadRequest, match="the delay of vxm is published"):
        LP30.assume({"vxm": 3})


def test_links() -> None:
    links = TSP.links
    assert links is not None
    assert links.cycles is not None
    assert links.inside is not None
    assert links.outside is not None
    assert links.bytes_s == 100e9 / 8
    assert TSP.vector_link_cycles() == 24
    assert TSP.hop_cycles() == 650
    assert links.cycles.mean / TSP.hertz == pytest.approx(240e-9, rel=0.01)
    assert links.inside + links.outside == 11


def test_groq_3_as_far_as_it_is_published() -> None:
    assert LP30.sram_bytes == 500e6
    assert LP30.sram_bytes_s == 150e12
    assert 256 * LP30.peak_ops_s("fp8") == pytest.approx(315e15, rel=0.002)
    assert LP30.links is not None
    assert 2 * LP30.links.count * LP30.links.bytes_s == pytest.approx(2.5e12, rel=0.08)
    assert LP30.delay("vxm") == 2
    with pytest.raises(BadRequest, match="multiplies no matrices of 'int8'"):
        LP30.peak_ops_s("int8")


@pytest.mark.parametrize(
    "ask",
    [
        lambda chip: chip.hertz,
        lambda chip: chip.lane_count,
        lambda chip: chip.slice_bytes,
        lambda chip: chip.stream_bytes_s,
        lambda chip: chip.fetch_bytes_s,
        lambda chip: chip.weight_bytes_s,
        lambda chip: chip.alus,
        lambda chip: chip.product("fp8"),
        lambda chip: chip.position(Place("vxm", "middle")),
        lambda chip: list(chip.places()),
        lambda chip: chip.vector_link_cycles(),
        lambda chip: chip.at_figures(),
    ],
)
def test_what_is_not_published_of_a_chip_is_refused(ask: object) -> None:
    assert callable(ask)
    with pytest.raises(BadRequest, match="not published"):
        ask(LP30)


def test_a_chip_of_which_only_the_name_is_known() -> None:
    bare = Chip(name="new", source="nobody")
    for what in ("sram_bytes", "sram_bytes_s"):
        with pytest.raises(BadRequest, match="not published"):
            getattr(bare, what)
    with pytest.raises(BadRequest, match="none are published"):
        bare.peak_ops_s("fp16")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("word_bytes = 16", "word_bytes = 8", "words of 8 bytes for 16 lanes"),
        ("reads = 1", "reads = 3", "more reads or writes"),
        ("slices = 44\nwords", "slices = 40\nwords", "not 40"),
        ("columns = 320", "columns = 256", "256 columns for 320 lanes"),
        ("load_streams = 32", "load_streams = 64", "weights on 64 streams of 32"),
        ("depth = 160", "depth = 320", "exceeds a plane's rows"),
        ('"sxm", slices = 1', '"vxm", slices = 1', "two places"),
        ("count = 16", "count = 8", "more links than the chip's 8"),
        ("wire_bytes = 328", "wire_bytes = 300", "320 bytes in 300"),
        ("mean = 216.7", "mean = 300.0", "mean latency"),
        ("words = 8192", "words = 4096", "of memory, and 2.3e\\+08 is published"),
        ("planes = 4", "planes = 0", "planes"),
        ('shipped = "900 MHz"', 'shipped = "700 MHz"', "int8"),
        ("products = 4", "products = 8", "int8"),
        ('shipped = "900 MHz"', "shipped = 900", "no unit"),
        ("superlanes = 20", "", "superlanes"),
    ],
)
def test_parts_that_do_not_fit_are_refused(old: str, new: str, said: str) -> None:
    text = tsp_text()
    assert text.count(old) == 1
    with pytest.raises(BadRequest, match=said):
        parse_chip(text.replace(old, new), source="mine.toml")
