"""Systems of LPUs: sizes, ports and diameters as published, routes and what they share."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise, permutations

import pytest

from atoll.domain.errors import BadRequest
from atoll.lpu.machine import shipped_chips
from atoll.lpu.topology import Topology, build, parse_systems, shipped_systems

SYSTEMS = shipped_systems()
NODE = build(SYSTEMS.find("GroqNode"))
RACK = build(SYSTEMS.find("GroqRack"))
DRAGONFLY = build(SYSTEMS.find("Dragonfly of 264"))
EIGHT_RACKS = build(SYSTEMS.find("Dragonfly of racks"), racks=8)
LPX = SYSTEMS.find("LPX")


def test_sizes_and_ports_as_published() -> None:
    assert (NODE.chips, len(NODE.links), NODE.outside) == (8, 28, 32)
    assert (RACK.chips, RACK.outside) == (72, 144)
    assert len(RACK.links) == 9 * 28 + 144 // 2
    assert (DRAGONFLY.chips, DRAGONFLY.outside) == (264, 0)
    tsp = shipped_chips().find("TSP")
    assert DRAGONFLY.chips * tsp.sram_bytes == pytest.approx(56 * 2**30, rel=0.02)
    assert EIGHT_RACKS.chips == 576


def test_the_largest_system() -> None:
    whole = build(SYSTEMS.find("TSP 10440"))
    assert whole.chips == whole.system.chips == 10_440
    assert whole.outside == 0
    assert whole.chips * shipped_chips().find("TSP").sram_bytes > 2e12
    # Five hops are published; from chip to chip a rack of 72 takes three, not two.
    assert whole.system.diameter == 5
    assert max(whole.distances(0)) == 7
    route = whole.route(0, 10_439)
    assert len(route) - 1 == whole.distances(0)[10_439]
    assert [whole.rack(chip) for chip in (0, 71, 72, 10_439)] == [0, 0, 1, 144]


@pytest.mark.parametrize("topology", [NODE, RACK, DRAGONFLY], ids=lambda t: t.system.name)
def test_every_chip_is_reached_within_the_diameter(topology: Topology) -> None:
    farthest = {max(topology.distances(chip)) for chip in range(topology.chips)}
    expected = topology.system.diameter or 3
    assert farthest == {expected}


@pytest.mark.parametrize(
    "topology", [NODE, RACK, DRAGONFLY, EIGHT_RACKS], ids=lambda t: str(t.chips)
)
def test_no_chip_has_more_links_than_ports(topology: Topology) -> None:
    ends = Counter(chip for link in topology.links for chip in (link.low, link.high))
    assert set(ends) == set(range(topology.chips))
    assert max(ends.values()) <= 7 + 4
    assert all(link.low < link.high for link in topology.links)
    assert sum(ends.values()) + topology.outside == topology.chips * 11


def test_nodes_and_racks_are_joined_by_as_many_links_each() -> None:
    def between(topology: Topology, member: str) -> set[int]:
        of = getattr(topology, member)
        found = Counter((of(link.low), of(link.high)) for link in topology.links)
        return {number for (one, other), number in found.items() if one != other}

    assert between(RACK, "node") == {2}
    assert between(DRAGONFLY, "node") == {1}
    assert between(EIGHT_RACKS, "rack") == {144 // 7}
    assert between(build(SYSTEMS.find("TSP 264"), nodes=5), "node") == {8}


def test_an_all_to_all_of_a_node_shares_no_link() -> None:
    used = Counter[tuple[int, int]]()
    for start, end in permutations(range(NODE.chips), 2):
        route = NODE.route(start, end)
        assert route == (start, end)
        used.update(pairwise(route))
    assert len(used) == 56
    assert max(used.values()) == 1


def test_routes_run_over_links_and_are_as_short_as_any() -> None:
    distances = DRAGONFLY.distances(3)
    for end in range(DRAGONFLY.chips):
        route = DRAGONFLY.route(3, end)
        assert (route[0], route[-1]) == (3, end)
        assert len(route) - 1 == distances[end] == DRAGONFLY.hops(3, end)
        assert all(DRAGONFLY.parallel(*pair) for pair in pairwise(route))
    assert DRAGONFLY.route(3, 3) == (3,)


def test_disjoint_routes_of_a_node() -> None:
    routes = NODE.disjoint_routes(2, 6, most=99)
    assert [len(route) - 1 for route in routes] == [1] + [2] * 6
    hops = [pair for route in routes for pair in pairwise(route)]
    assert len(hops) == len(set(hops))
    assert NODE.disjoint_routes(2, 6, most=3) == routes[:3]
    assert NODE.disjoint_routes(2, 2, most=3) == []


def test_bisection() -> None:
    assert NODE.bisection == 4 * 4
    two = build(SYSTEMS.find("TSP 264"), nodes=2)
    assert two.bisection == 32
    even = build(SYSTEMS.find("TSP 264"), nodes=32)
    assert even.bisection == 16 * 16
    assert EIGHT_RACKS.bisection == 4 * 4 * (144 // 7)
    assert DRAGONFLY.bisection == pytest.approx(16 * 16 + 16 + 16, abs=8)


def test_chip_and_system_say_the_same_of_ports() -> None:
    chips = shipped_chips()
    for system in SYSTEMS:
        links = chips.find(system.chip).links
        assert links is not None
        assert system.chip_ports == links.outside
        if links.inside is not None:
            assert links.inside == system.node_chips - 1


def test_lpx_as_far_as_it_is_published() -> None:
    lp30 = shipped_chips().find(LPX.chip)
    assert LPX.chips == 256
    assert LPX.chips * lp30.sram_bytes == 128e9
    assert LPX.reach_s(lp30, 256) == pytest.approx(1.15e-6)
    assert LPX.reach_s(lp30, 2) == pytest.approx(350e-9)
    with pytest.raises(BadRequest, match="among 4000 chips is not published"):
        LPX.reach_s(lp30, 4000)
    with pytest.raises(BadRequest, match="how its chips are joined is not published"):
        build(LPX)


def test_systems_and_chips_that_are_not_there() -> None:
    design = SYSTEMS.find("TSP 10440")
    for nodes, racks, said in (
        (10, 1, "at most 9 nodes"),
        (0, 1, "at most 9 nodes"),
        (9, 146, "at most 145 racks"),
        (4, 2, "when they are full"),
    ):
        with pytest.raises(BadRequest, match=said):
            build(design, nodes=nodes, racks=racks)
    for call in (NODE.neighbours, NODE.node, NODE.rack, NODE.distances):
        for chip in (-1, 8):
            with pytest.raises(BadRequest, match=f"no chip {chip}"):
                call(chip)
    with pytest.raises(BadRequest, match="no chip 9"):
        NODE.route(0, 9)


ENTRY = """[[systems]]
name = "mine"
chip = "Groq TSP"
source = "here"
node_chips = 8
"""


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ("chip_ports = 4\nnodes = 40\nnode_ports = 32", "32 ports cannot join 40 nodes"),
        ("chip_ports = 4\nnodes = 9\nnode_ports = 33", "more ports than its chips have"),
        ("nodes = 9\nnode_ports = 16", "more ports than its chips have"),
        (
            "chip_ports = 4\nnodes = 9\nnode_ports = 16\nracks = 9\nrack_ports = 145",
            "more ports than its chips have",
        ),
        (
            "chip_ports = 4\nnodes = 9\nnode_ports = 16\nracks = 50\nrack_ports = 40",
            "40 ports cannot join 50 racks",
        ),
        ("chip_ports = 4\nnodes = 9000\nnode_ports = 16", "72000 chips"),
        ("nodes = 0", "nodes"),
    ],
)
def test_designs_that_cannot_be_built_are_refused(rest: str, said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        parse_systems(ENTRY + rest, source="mine.toml")


def test_a_design_of_unknown_ports_is_not_built() -> None:
    found = parse_systems(ENTRY + "chip_ports = 4\nnodes = 9", source="mine.toml").find("mine")
    with pytest.raises(BadRequest, match="how its nodes are joined is not published"):
        build(found)
    assert build(found, nodes=1).chips == 8
