"""Fleets of several parts, in a line and as TOML."""

from __future__ import annotations

from pathlib import Path

import pytest

from atoll.domain.errors import BadRequest
from atoll.forecast.devices import shipped_devices
from atoll.forecast.fleet_file import BACK_S, parse_fleet, parse_fleet_file, shipped_fleets

DEVICES = shipped_devices()
FILE = """
name = "a mix"
handover = "50 GB/s"

[[parts]]
fleet = "8 x H100 SXM"
count = 2
role = "prefill"

[[parts]]
fleet = "60 x RTX 4090 @ 20 ms"
machines = 3
role = "decode"
leave = 0.05
back = "10 min"
takeover = "4 s"
streams = 40
caches = ["64 GB @ 25 GB/s", "2 TB @ 10 GB/s"]
reuse = false

[[parts]]
ring = ["2 x RTX 4090", "1 x Apple M3 Ultra (80c)"]
way = "5 ms"
count = 4

[parts.drafts]
depth = 4
right = 0.7
guess = "2 ms"
"""


def test_a_line_of_parts() -> None:
    fleet = parse_fleet("8xh100 + 60 x RTX 4090 @ 20 ms", DEVICES)
    assert [(part.line.n, part.line.is_ring) for part in fleet.parts] == [(8, False), (60, True)]
    assert fleet.name == "8xh100 + 60 x RTX 4090 @ 20 ms"
    assert len(parse_fleet("lpu", DEVICES).parts) == 1
    with pytest.raises(BadRequest, match="no device") as error:
        parse_fleet("8xh100 + 4 x RTX 409", DEVICES)
    assert "RTX 4090" in error.value.hint


def test_a_file() -> None:
    fleet = parse_fleet_file(FILE, DEVICES, source="fleet.toml")
    assert (fleet.name, fleet.handover_rate) == ("a mix", 50e9)
    servers, pool, rings = fleet.parts
    assert (servers.count, servers.role, servers.name) == (2, "prefill", "2 times 8 x H100 SXM")
    assert (pool.machines, pool.leave, pool.back_s, pool.takeover_s) == (3, 0.05, 600.0, 4.0)
    assert pool.streams == 40
    assert [(tier.bytes, tier.rate) for tier in pool.caches] == [(64e9, 25e9), (2e12, 1e10)]
    assert (servers.reuse, pool.reuse) == (True, False)
    assert [device.name for device in rings.ring] == [
        *["NVIDIA RTX 4090"] * 2,
        "Apple M3 Ultra (80c)",
    ]
    assert (rings.line.n, rings.line.way_s, rings.back_s) == (3, 0.005, BACK_S)
    assert (rings.drafts.depth, rings.drafts.right, rings.drafts.guess_s) == (4, 0.7, 0.002)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("parts = 3", "cannot be read"),
        ("parts = []", "1 to 100 parts"),
        ("[[parts]]\ncount = 1", "either a `fleet` or a `ring`"),
        ("[[parts]]\nfleet = '8xh100'\nring = ['1 x RTX 4090']", "either a `fleet` or a `ring`"),
        ("[[parts]]\nfleet = '8 x H101'", "no device"),
        ("[[parts]]\nfleet = '8 x H100'\nspeed = 3", "unknown field"),
        ("[[parts]]\nfleet = '8 x H100 SXM'\ncount = 0", "count = 0 is out of range"),
        ("[[parts]]\nfleet = '8 x H100 SXM'\nmachines = 2", "those of a ring"),
        ("[[parts]]\nfleet = '8 x RTX 4090 @ 1 ms'\ncount = 2", "`count` is of servers"),
        ("[[parts]]\nfleet = '8 x RTX 4090 @ 1'", "has no unit"),
        ("[[parts]]\nfleet = '8 x RTX 4090 @ 1 ms'\nleave = -1", "leave = -1"),
        ("[[parts]]\nfleet = '8 x RTX 4090 @ 1 ms'\nback = '10'", "has no unit"),
        ("[[parts]]\nfleet = '8 x RTX 4090'\nway = '1 ms'", "goes with a `ring`"),
        ("[[parts]]\nring = ['2 x RTX 4090']", "needs the `way`"),
        ("[[parts]]\nfleet = '8xh100'\ncaches = ['1 TB']", "no device is called '1 TB'"),
        ("[[parts]]\nfleet = '8xh100'\ncaches = ['2 x RTX 4090']", "is no tier of caches"),
        ("[[parts]]\nfleet = '8xh100'\ncaches = ['1 TB @ 5']", "has no unit"),
        ("[[parts]]\nfleet = '8 x RTX 4090'\nrole = 'prefill'", "need others that decode"),
        ("[[parts]]\nfleet = '8 x RTX 4090'\nrole = 'cook'", "cannot be read"),
        (
            "[[parts]]\nfleet = '8 x RTX 4090 @ 1 ms'\n[parts.drafts]\ndepth = 4\nright = 7",
            "0 to 1",
        ),
    ],
)
def test_what_is_no_fleet_is_refused(text: str, problem: str) -> None:
    with pytest.raises(BadRequest, match=problem):
        parse_fleet_file(text, DEVICES, source="fleet.toml")


def test_the_page_s_example_is_one() -> None:
    page = (Path(__file__).parents[2] / "docs/howto/simulate-a-fleet.md").read_text("utf-8")
    example = page.split("```toml\n")[1].split("```")[0]
    fleet = parse_fleet_file(example, DEVICES, source="the page")
    assert [part.role for part in fleet.parts] == ["prefill", "decode", "all", "all"]


def test_those_that_are_shipped() -> None:
    assert len(shipped_fleets()) == 9
    for name, fleet in shipped_fleets().items():
        assert parse_fleet(name.upper(), DEVICES).parts == fleet.parts
    assert shipped_fleets()["200-homes"].parts[0].drafts.depth == 4
    assert len(shipped_fleets()["mix"].parts) == 3
    both = parse_fleet("8xh100 + mix", DEVICES)
    assert [part.machines_in_words for part in both.parts] == [
        "8 x NVIDIA H100 SXM",
        "8 x NVIDIA H100 SXM",
        "4 x Apple M3 Ultra (80c), 0.15 ms apart",
        "60 x NVIDIA RTX 4090, 20 ms apart",
    ]


def test_memory_pools_of_the_catalogue_keep_caches() -> None:
    text = "[[parts]]\nfleet = '8 x H100 SXM'\ncaches = ['2 x EMFASYS']"
    (part,) = parse_fleet_file(text, DEVICES, source="f").parts
    (tier,) = part.caches
    assert (tier.bytes, tier.rate) == (36e12, 800e9)
    assert tier.pool == "Enfabrica EMFASYS memory node"


def test_a_part_in_words() -> None:
    servers, _, rings = parse_fleet_file(FILE, DEVICES, source="fleet.toml").parts
    assert servers.machines_in_words == "16 x NVIDIA H100 SXM"
    assert rings.machines_in_words == "8 x NVIDIA RTX 4090, 4 x Apple M3 Ultra (80c), 5 ms apart"
    assert [part.is_rings for part in (servers, rings)] == [False, True]
