"""Which nodes are to time the way between them.

Pure. In a small fleet all do. In a larger one each node has some peers that may be
near: those that the gateway sees at the same address, and those at about the same
distance from it, as two nodes are at least as far apart as their distances differ.
Nodes of one host do not: what is between them is no network.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from atoll.domain.ids import NodeId

ALL_MAX = 12
"""Up to so many nodes every pair is timed."""
PEERS_MAX = 8
"""Beyond that, with how many others a node times its way."""
LOOK_AHEAD = 4 * PEERS_MAX

Pair = tuple[NodeId, NodeId]
"""Two nodes, in the order of their keys."""


def pair_of(one: NodeId, other: NodeId) -> Pair:
    """The pair that they are."""
    return (one, other) if one < other else (other, one)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node is, as far as the gateway can tell.

    `host` is equal for nodes of one machine. `site` is the address it is seen at,
    which machines behind one router share; empty if it is not known. `distance_s` is
    that from the gateway; 0 while it is not known.
    """

    node: NodeId
    host: str
    site: str = ""
    distance_s: float = 0.0


def near_pairs(places: Sequence[Place]) -> list[Pair]:
    """The pairs that are worth timing, those first by which most could be gained.

    Over the gateway two nodes are their distances together from each other, so what a
    direct way could save is at most twice the lesser of them.
    """
    found = _all(places) if len(places) <= ALL_MAX else _neighbours(places)
    return [(one.node, other.node) for one, other in sorted(found, key=_gain)]


def _gain(pair: tuple[Place, Place]) -> tuple[bool, float, NodeId, NodeId]:
    one, other = pair
    return not _together(pair), -min(one.distance_s, other.distance_s), one.node, other.node


def _together(pair: tuple[Place, Place]) -> bool:
    one, other = pair
    return bool(one.site) and one.site == other.site


def _sorted(one: Place, other: Place) -> tuple[Place, Place]:
    return (one, other) if one.node < other.node else (other, one)


def _all(places: Sequence[Place]) -> list[tuple[Place, Place]]:
    pairs = combinations(sorted(places, key=lambda place: place.node), 2)
    return [(one, other) for one, other in pairs if one.host != other.host]


def _neighbours(places: Sequence[Place]) -> list[tuple[Place, Place]]:
    """Those next to each other by distance, in all and at each site, as many as a node may have.

    First all at one site, then the next by distance of everybody, then the next but one.
    """
    by_site: defaultdict[str, list[Place]] = defaultdict(list)
    for place in places:
        if place.site:
            by_site[place.site].append(place)
    steps: dict[tuple[Place, Place], int] = {}
    for group in (list(places), *by_site.values()):
        group.sort(key=lambda place: (place.distance_s, place.node))
        for i, one in enumerate(group):
            # Of one host there may be many: they take no places of others.
            others = [p for p in group[i + 1 : i + 1 + LOOK_AHEAD] if p.host != one.host]
            for step, other in enumerate(others[:PEERS_MAX]):
                pair = _sorted(one, other)
                steps[pair] = min(step, steps.get(pair, step))
    degree: Counter[NodeId] = Counter()
    pairs = []
    for pair in sorted(steps, key=lambda pair: (not _together(pair), steps[pair], _gain(pair))):
        nodes = [place.node for place in pair]
        if max(degree[node] for node in nodes) < PEERS_MAX:
            degree.update(nodes)
            pairs.append(pair)
    return pairs
