"""Chips in a line, node by node, such that neighbours have a link wherever there is one.

Chips of a node are all joined. At the border of two nodes, the chips that have a link to the
other node stand next to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from atoll.lpu.compiler.spread.gateways import Gateway, chips_of, gateways
from atoll.lpu.topology import Topology

Links = Mapping[tuple[int, int], Sequence[Gateway]]


def line(topology: Topology) -> tuple[int, ...]:
    """All chips of a system.

    Raises:
        BadRequest: There are several racks, or two nodes without a link.
    """
    links = gateways(topology)
    found: list[int] = []
    for node in range(topology.nodes):
        near = {chip: -n for n, chip in enumerate(found)}
        # Partners of the last chips so far come first.
        before = sorted(
            (near[link.source], link.target) for link in links.get((node - 1, node), ())
        )
        first = list(dict.fromkeys(target for _, target in before))
        ahead = {link.source for link in links.get((node, node + 1), ())}
        others = [chip for chip in chips_of(topology, node) if chip not in first]
        found += [*first, *sorted(others, key=lambda chip: (chip in ahead, chip))]
    return tuple(found)


def links_among(topology: Topology, chips: Sequence[int]) -> Links:
    """Links between nodes that have some of the chips: those from one of the chips to another,
    or where two nodes have none of these, all that they have.

    Raises:
        BadRequest: There are several racks, or two nodes without a link.
    """
    used = set(chips)
    nodes = {topology.node(chip) for chip in chips}
    found: dict[tuple[int, int], Sequence[Gateway]] = {}
    for pair, links in gateways(topology).items():
        if nodes.issuperset(pair):
            among = [link for link in links if {link.source, link.target} <= used]
            found[pair] = among or links
    return found
