"""What is known of links, and what is made of what is not."""

from __future__ import annotations

import pytest

from atoll.domain.measure import WindowTime
from atoll.plan.fleet import Fleet, Gateway, Link, LinkEntry, Machine
from atoll.plan.links import GATEWAY, ON_HOST, LinkTable

TIMES = (WindowTime(1, 0.001),)


def table(*links: LinkEntry) -> LinkTable:
    machines = tuple(Machine(name, 1, TIMES) for name in "abc")
    return LinkTable(Fleet(Gateway(TIMES), machines, links, Link(0.5, 1e6)))


def test_measured_in_each_direction() -> None:
    found = table(LinkEntry("a", "b", 0.01, 1e6), LinkEntry("b", "a", 0.03, 2e6))
    assert found.link(1, 2) == Link(0.01, 1e6)
    assert found.link(2, 1) == Link(0.03, 2e6)


def test_one_direction_counts_for_the_other() -> None:
    assert table(LinkEntry("gateway", "c", 0.02, 1e6)).link(3, GATEWAY) == Link(0.02, 1e6)


def test_nodes_are_as_near_as_they_measured_not_as_over_the_gateway() -> None:
    far = (LinkEntry("gateway", "a", 0.05, 1e6), LinkEntry("gateway", "b", 0.05, 1e6))
    found = table(*far, LinkEntry("a", "b", 0.001, 5e6))
    assert found.link(1, 2) == found.link(2, 1) == Link(0.001, 5e6)
    # The rate may differ by direction.
    found = table(*far, LinkEntry("b", "a", 0.001, 5e6), LinkEntry("a", "b", 0.001, 2e6))
    assert (found.link(1, 2), found.link(2, 1)) == (Link(0.001, 2e6), Link(0.001, 5e6))
    assert found.least_into(0)[2] == pytest.approx(0.001)


def test_an_unknown_pair_is_as_far_apart_as_over_the_gateway() -> None:
    found = table(LinkEntry("gateway", "a", 0.02, 3e6), LinkEntry("gateway", "b", 0.01, 1e6))
    assert found.link(1, 2) == Link(0.03, 1e6)
    # Of c nothing is known: its part of the way is the default.
    assert found.link(1, 3) == Link(0.52, 1e6)
    assert found.link(3, GATEWAY) == Link(0.5, 1e6)


def test_nodes_of_one_host_are_near_unless_measured() -> None:
    gateway = Gateway(TIMES, host="home")
    machines = tuple(
        Machine(name, 1, TIMES, host=host)
        for name, host in (("a", "rack"), ("b", "rack"), ("c", ""), ("d", ""), ("e", "home"))
    )
    far = tuple(LinkEntry("gateway", name, 0.05, 1e6) for name in "abcd")
    found = LinkTable(Fleet(gateway, machines, far, Link(0.5, 1e6)))
    assert found.link(1, 2) == found.link(GATEWAY, 5) == ON_HOST
    assert found.link(1, 3) == found.link(3, 4) == Link(0.1, 1e6)
    least = found.least_into(0)
    assert least[1] == least[2] == least[5] == least[GATEWAY] == ON_HOST.latency_s
    assert least[3] == pytest.approx(0.05)
    measured = LinkEntry("b", "a", 0.002, 1e6)
    found = LinkTable(Fleet(gateway, machines, (*far, measured)))
    assert found.link(1, 2) == found.link(2, 1) == Link(0.002, 1e6)


def test_all_pairs() -> None:
    found = table(LinkEntry("gateway", "a", 0.02, 1e6)).matrix([0, 1, 3], 1000)
    assert found[0] == [0.0, pytest.approx(0.021), pytest.approx(0.501)]
    assert found[1][2] == pytest.approx(0.521)


def test_the_shortest_way_in() -> None:
    found = table(
        LinkEntry("gateway", "a", 0.02, 1e6),
        LinkEntry("b", "a", 0.001, 1e6),
        LinkEntry("gateway", "b", 0.3, 1e6),
    ).least_into(0)
    assert found[:3] == [pytest.approx(0.02), pytest.approx(0.001), pytest.approx(0.001)]
    assert found[3] == 0.5
