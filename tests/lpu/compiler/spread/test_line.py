"""Neighbours in the line of chips are joined, wherever nodes have such links."""

from __future__ import annotations

from itertools import pairwise

import pytest

from atoll.domain.errors import BadRequest
from atoll.lpu.compiler.spread.gateways import gateways
from atoll.lpu.compiler.spread.line import line, links_among
from atoll.lpu.topology import build, shipped_systems

SYSTEMS = shipped_systems()
DRAGONFLY = SYSTEMS.find("Dragonfly of 264")


@pytest.mark.parametrize("nodes", [1, 2, 3, 13, 33])
def test_neighbours_are_joined(nodes: int) -> None:
    topology = build(DRAGONFLY, nodes=nodes)
    found = line(topology)
    assert sorted(found) == list(range(topology.chips))
    assert [topology.node(chip) for chip in found] == [n // 8 for n in range(topology.chips)]
    assert all(topology.parallel(*pair) for pair in pairwise(found))


def test_of_two_nodes_all_links_lie_mirrored() -> None:
    """Chip n of a node is joined to chip 7 - n of the other."""
    assert line(build(DRAGONFLY, nodes=2)) == (*range(8), *range(8, 16))
    found = line(build(DRAGONFLY, nodes=13))
    assert found[6:10] == (0, 1, 14, 15)


def test_links_of_idle_chips_are_used_where_there_are_no_others() -> None:
    topology = build(DRAGONFLY, nodes=13)
    every = gateways(topology)
    found = links_among(topology, (0, 1, 14))
    assert sorted(found) == [(0, 1), (1, 0)]
    assert [(g.source, g.target) for g in found[0, 1]] == [(1, 14)]
    assert links_among(topology, (5, 13))[0, 1] == every[0, 1]


def test_racks_are_refused() -> None:
    with pytest.raises(BadRequest, match="2 racks"):
        line(build(SYSTEMS.find("Dragonfly of racks"), racks=2))
