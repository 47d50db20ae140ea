"""Links between nodes: all of them, and one of each pair with the load spread over chips."""

from __future__ import annotations

from collections import Counter

import pytest

from atoll.domain.errors import BadRequest
from atoll.lpu.compiler.spread.gateways import chips_of, gateways, one_each
from atoll.lpu.topology import build, shipped_systems

SYSTEMS = shipped_systems()
DRAGONFLY = SYSTEMS.find("Dragonfly of 264")


@pytest.mark.parametrize("nodes", [1, 2, 5, 32, 33])
def test_links_of_all_pairs_of_nodes(nodes: int) -> None:
    topology = build(DRAGONFLY, nodes=nodes)
    found = gateways(topology)
    assert len(found) == nodes * (nodes - 1)
    for (one, other), links in found.items():
        assert len(links) == 32 // (nodes - 1)
        assert all(topology.node(g.source) == one for g in links)
        assert all(topology.node(g.target) == other for g in links)
        assert all(0 <= g.lane < topology.parallel(g.source, g.target) for g in links)
        back = {(g.target, g.source, g.lane) for g in found[other, one]}
        assert back == {(g.source, g.target, g.lane) for g in links}


@pytest.mark.parametrize("nodes", [2, 9, 32, 33])
def test_chips_have_about_as_many_links_each(nodes: int) -> None:
    topology = build(DRAGONFLY, nodes=nodes)
    chosen = one_each(gateways(topology))
    load = Counter(g.target for g in chosen.values())
    assert load == Counter(g.source for g in chosen.values())
    for node in range(nodes):
        each = [load[chip] for chip in chips_of(topology, node)]
        assert sum(each) == nodes - 1
        assert max(each) <= 4


def test_racks_are_refused() -> None:
    with pytest.raises(BadRequest, match="2 racks"):
        gateways(build(SYSTEMS.find("Dragonfly of racks"), racks=2))
