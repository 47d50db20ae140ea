"""Which chip of a node sends to which other node, and over which of several links.

Source: Abts et al., ISCA 2022, page 577: an all-reduce in three levels, within the node, between
nodes over the global links, and within the target node.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from atoll.domain.errors import BadRequest
from atoll.lpu.topology import Topology


@dataclass(frozen=True, slots=True, order=True)
class Gateway:
    """A link from a chip of one node to a chip of another; numbers of chips in all the system."""

    source: int
    target: int
    lane: int


def chips_of(topology: Topology, node: int) -> range:
    """Chips of a node."""
    size = topology.system.node_chips
    return range(node * size, (node + 1) * size)


def gateways(topology: Topology) -> dict[tuple[int, int], tuple[Gateway, ...]]:
    """All links from each node to each other one, in order.

    Raises:
        BadRequest: There are several racks, or two nodes without a link.
    """
    if topology.racks > 1:
        raise BadRequest(
            f"{topology.racks} racks: an all-reduce has levels for chips of a node and for nodes",
            hint="build one rack, or a system whose nodes are all joined to each other",
        )
    lanes: Counter[tuple[int, int]] = Counter()
    found: dict[tuple[int, int], list[Gateway]] = {}
    for link in topology.links:
        one, other = topology.node(link.low), topology.node(link.high)
        if one == other:
            continue
        lane = lanes[link.low, link.high]
        lanes[link.low, link.high] += 1
        found.setdefault((one, other), []).append(Gateway(link.low, link.high, lane))
        found.setdefault((other, one), []).append(Gateway(link.high, link.low, lane))
    for one in range(topology.nodes):
        for other in range(topology.nodes):
            if one != other and (one, other) not in found:
                raise BadRequest(f"{topology.system.name}: nodes {one} and {other} have no link")
    return {pair: tuple(links) for pair, links in sorted(found.items())}


def one_each(
    all_links: dict[tuple[int, int], tuple[Gateway, ...]],
) -> dict[tuple[int, int], Gateway]:
    """Of each pair of nodes one link, such that chips have about as many; both ways the same."""
    load: Counter[int] = Counter()
    chosen: dict[tuple[int, int], Gateway] = {}
    for (one, other), links in all_links.items():
        if one > other:
            continue
        best = min(links, key=lambda g: (max(load[g.source], load[g.target]), g))
        load.update((best.source, best.target))
        chosen[one, other] = best
        chosen[other, one] = Gateway(best.target, best.source, best.lane)
    return chosen
