"""Links, measured collectives and round trips."""

from __future__ import annotations

import pytest

from atoll.domain.errors import BadRequest
from atoll.forecast.wires import Collective, parse_way, parse_wires, shipped_wires

MINE = """
[[links]]
name = "string"
bandwidth = "1 Mbit/s"
latency = "3 ms"
source = "pulled"

[[collectives]]
system = "reef"
ways = 2
bytes = [100, 10000]
us = [5.0, 50.0]
source = "measured"

[[round_trips]]
between = ["reef", "shore"]
ms = 12.5
source = "measured"
"""


def test_what_is_carried() -> None:
    wires = shipped_wires()
    assert wires.links.find("NVLink4").bandwidth == 450e9
    home = wires.links.find("US home broadband (median)")
    assert home.down > home.bandwidth > 0
    assert wires.round_trip_s("us-east-1", "eu-west-1") == pytest.approx(0.0806)
    assert wires.round_trip_s("eu-west-1", "us-east-1") == pytest.approx(0.0806)
    assert wires.all_reduce_s("NVIDIA H100 SXM", 8, 8192) == pytest.approx(5.31e-6)
    assert wires.all_reduce_s("an abacus", 8, 8192) is None


@pytest.mark.parametrize(
    ("size", "us"), [(1, 5.0), (100, 5.0), (1000, 15.811), (10_000, 50.0), (100_000, 500.0)]
)
def test_sizes_between_and_beyond(size: float, us: float) -> None:
    one = Collective("reef", 2, (100, 10_000), (5.0, 50.0), "")
    assert one.seconds(size) == pytest.approx(us / 1e6, rel=1e-4)


def test_a_number_of_devices_that_was_not_measured() -> None:
    wires = parse_wires(MINE, source="mine.toml")
    assert wires.all_reduce_s("reef", 16, 100) == 5e-6


def test_large_ones_go_round_a_ring() -> None:
    wires = parse_wires(MINE, source="mine.toml")
    # 1.98 MB more than was measured, half of them out and half back, at 1 GB/s.
    got = wires.all_reduce_s("reef", 2, 2e6, link=1e9)
    assert got == pytest.approx(50e-6 + 1.99e6 / 1e9)
    assert wires.all_reduce_s("reef", 2, 2e6) == pytest.approx(10_000e-6)
    # A slow link makes nothing slower than was measured.
    assert wires.all_reduce_s("reef", 2, 2e6, link=1e3) == pytest.approx(10_000e-6)
    assert wires.all_reduce_s("reef", 2, 1000, link=1e3) == pytest.approx(15.811e-6, rel=1e-4)


def test_places_that_are_not_known() -> None:
    wires = parse_wires(MINE, source="mine.toml")
    with pytest.raises(BadRequest) as caught:
        wires.round_trip_s("reef", "moon")
    assert caught.value.hint == "places are reef, shore"


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("[100, 10000]", "[100]", "not of rising sizes"),
        ("[100, 10000]", "[10000, 100]", "not of rising sizes"),
        ("[5.0, 50.0]", "[5.0, -1.0]", "not of rising sizes"),
        ('"3 ms"', '"3"', "has no unit"),
        ('"3 ms"', '"3 GB/s"', "no unit of time"),
        ("ms = 12.5", "", "required field `ms`"),
    ],
)
def test_files_that_are_none(old: str, new: str, problem: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_wires(MINE.replace(old, new), source="mine.toml")
    assert problem in str(caught.value)


def test_ways_by_time_link_and_places() -> None:
    wires = parse_wires(MINE, source="mine")
    assert parse_way("20 ms", wires, where="x") == pytest.approx(0.02)
    assert parse_way("String", wires, where="x") == pytest.approx(0.003)
    assert parse_way("reef to shore", wires, where="x") == pytest.approx(0.00625)


@pytest.mark.parametrize(
    ("way", "problem"),
    [
        ("20", "has no unit"),
        ("reef to moon", "between reef and moon is not known"),
        ("rope", "is no time"),
        ("Gigabit Ethernet", "latency of Gigabit Ethernet is not published"),
    ],
)
def test_what_is_no_way(way: str, problem: str) -> None:
    with pytest.raises(BadRequest, match=problem):
        parse_way(way, shipped_wires(), where="x")
