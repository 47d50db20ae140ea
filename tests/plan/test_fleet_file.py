"""Fleets described by hand."""

from __future__ import annotations

import pytest

from atoll.domain.errors import BadRequest
from atoll.domain.measure import WindowTime
from atoll.plan.fleet import Link, LinkEntry
from atoll.plan.fleet_file import parse_fleet

TEXT = """
latency_ms = 30.0

[gateway]
ends_ms = { 64 = 9.0, 1 = 2.0 }

[[machines]]
name = "reef"
memory = "16GiB"
layer_ms = { 1 = 0.4, 16 = 1.0 }
overhead_ms = 0.5
host = "rock"

[[machines]]
name = "old"
memory = "1.5 GB"
layer_ms = { 1 = 4 }
count = 2

[[links]]
between = ["gateway", "old"]
latency_ms = 10.0
mbit_s = 80.0

[[links]]
between = ["old", "reef"]
latency_ms = 5.0
one_way = true
"""


def test_what_it_says() -> None:
    fleet = parse_fleet(TEXT)
    reef, one, two = fleet.machines
    assert (reef.memory_bytes, reef.overhead_s, reef.host) == (16 * 1024**3, 0.0005, "rock")
    assert reef.layer_s == (WindowTime(1, 0.0004), WindowTime(16, 0.001))
    assert [one.name, two.name, one.memory_bytes] == ["old-1", "old-2", 1_500_000_000]
    assert fleet.gateway.ends_s == (WindowTime(1, 0.002), WindowTime(64, 0.009))
    assert LinkEntry("gateway", "old-2", 0.01, 1e7) in fleet.links
    assert LinkEntry("old-2", "gateway", 0.01, 1e7) in fleet.links
    assert LinkEntry("old-1", "reef", 0.005, 125e6) in fleet.links
    assert not [link for link in fleet.links if link.source == "reef"]
    assert fleet.default_link == Link(0.03, 125e6)


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ("[gateway]", "[gateway", "cannot be read"),
        ("ends_ms", "end_ms", "cannot be read"),
        ('memory = "16GiB"', 'memory = "much"', "'much' is no size"),
        ("count = 2", "count = 0", "0 machines called 'old'"),
        ("count = 2", "count = 20000", "more than 10000 machines"),
        ('["gateway", "old"]', '["gateway", "new"]', "a link names 'new'"),
        ('name = "old"', 'name = "reef"', "the name 'reef' stands for two nodes"),
        ("layer_ms = { 1 = 4 }", "layer_ms = { 0 = 4 }", "rising numbers of rows"),
        ("layer_ms = { 1 = 4 }", "layer_ms = { 1 = -4 }", "a time is out of range"),
        ("layer_ms = { 1 = 4 }", "layer_ms = { 1 = nan }", "a time is out of range"),
        ("latency_ms = 10.0", "latency_ms = -1.0", "is out of range"),
        ("mbit_s = 80.0", "mbit_s = 0.0", "is out of range"),
    ],
)
def test_what_is_wrong_is_named(before: str, after: str, problem: str) -> None:
    text = TEXT.replace(before, after)
    if 'name = "reef"' in after:
        text = text.replace("count = 2\n", "").replace('"old"', '"reef"')
    with pytest.raises(BadRequest, match=problem):
        parse_fleet(text)
