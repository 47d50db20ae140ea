"""Several rings of one model side by side, each of nodes of its own.

More rings give more tokens per second where a longer pipeline does not: its
overheads and ways grow with every node, and its streams fill it only in part.
Which is better is foretold, not assumed: the streams of the demand are shared
between the rings of a plan as the gateway shares them, and the plan with the most
tokens per second is taken. Nodes that have no part in it form further rings if they
can hold the model: they answer when the others are busy.

Up to `EXACT_NODES` nodes every way to part them is tried, with equal streams for
each ring; for more, nodes are dealt out like cards by what a layer costs on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from atoll.domain.errors import AtollError
from atoll.plan.fleet import Demand, Fleet, ModelCosts
from atoll.plan.planner import RingPlan, every_period, plan_ring
from atoll.plan.predict import Placed, Predictor

EXACT_NODES = 9
RINGS_MAX = 8
COUNTS_TRIED = (2, 3, 4, 6, 8)
"""Of rings side by side, where not every way to part the nodes is tried."""
DEALT_MAX = 48
"""Of a larger fleet, how many nodes are dealt out."""
MORE_RINGS_GAIN = 1.02
"""A plan with more rings must be faster by this factor to be taken."""


@dataclass(frozen=True, slots=True)
class PlannedRing:
    """One ring of a plan: `plan` is in terms of `fleet`, `placement` of the whole fleet.

    `streams` of the demand are its own; 0 for a ring that answers when others are busy.
    """

    fleet: Fleet
    plan: RingPlan
    placement: tuple[Placed, ...]
    streams: int


@dataclass(frozen=True, slots=True)
class RingsPlan:
    """Rings side by side, the fastest first.

    `tokens_per_s` is what all streams of the demand get together, `left_out` are the
    names of nodes in no ring.
    """

    rings: tuple[PlannedRing, ...]
    tokens_per_s: float
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Shared:
    """Streams on each ring, and tokens per second of all together."""

    streams: tuple[int, ...]
    tokens_per_s: float


def plan_rings(fleet: Fleet, model: ModelCosts, demand: Demand, *, rings_max: int) -> RingsPlan:
    """The rings that give all streams together the most tokens per second.

    Args:
        fleet: The nodes.
        model: The model's costs.
        demand: What is asked of all rings together.
        rings_max: Most rings.

    Raises:
        BadRequest: The fleet's description is none.
        NothingFits: Too little memory even for one ring.
        CannotCut: The model cannot be cut as memory asks for.
    """
    best = [_Found(fleet, plan_ring(fleet, model, demand))]
    best_rate = share(fleet, model, demand, [best[0].placement]).tokens_per_s
    streams = max(1, demand.streams)
    most = min(rings_max, streams, len(fleet.machines))
    exact = len(fleet.machines) <= EXACT_NODES
    for n_rings in [n for n in range(2, most + 1) if exact or n in COUNTS_TRIED]:
        each = msgspec.structs.replace(demand, streams=-(-streams // n_rings))
        found = _parted(fleet, model, each, n_rings)
        if found is None:
            continue
        rate = share(fleet, model, demand, [ring.placement for ring in found]).tokens_per_s
        if rate > best_rate * MORE_RINGS_GAIN:
            best, best_rate = found, rate
    best += _of_the_rest(fleet, model, demand, best, rings_max - len(best))
    return _told(fleet, model, demand, best)


def share(
    fleet: Fleet, model: ModelCosts, demand: Demand, rings: Sequence[Sequence[Placed]]
) -> Shared:
    """Give each stream of the demand to the ring on which it gets most, one after the other.

    Of rings that give it as much it gets the one with fewer streams.

    All rings share the gateway's ends: where these cannot keep up, all slow down alike.
    """
    found = [0] * len(rings)
    busy = [0.0] * len(rings)
    rates = [0.0] * len(rings)

    def with_one_more(i: int) -> tuple[float, float]:
        """Tokens per second of ring i with one more stream, and the ends' share of a second."""
        asked = msgspec.structs.replace(demand, streams=found[i] + 1)
        predictor = Predictor(fleet, model, asked)
        period_s, rows, _ = predictor.period_s(rings[i])
        rate = (found[i] + 1) / period_s
        return rate, rate / rows * predictor.ends_s(rows)

    ahead = [with_one_more(i) for i in range(len(rings))]
    for _ in range(max(1, demand.streams)):
        i = max(range(len(rings)), key=lambda i: (ahead[i][0] / (found[i] + 1), -found[i]))
        rates[i], busy[i] = ahead[i]
        found[i] += 1
        ahead[i] = with_one_more(i)
    return Shared(tuple(found), sum(rates) / max(1.0, sum(busy)))


@dataclass(frozen=True, slots=True)
class _Found:
    """A ring of some nodes of a fleet, and its placement in the whole fleet's numbers."""

    fleet: Fleet
    plan: RingPlan
    of: tuple[int, ...] | None = None

    @property
    def placement(self) -> tuple[Placed, ...]:
        if self.of is None:
            return self.plan.placement
        return tuple(Placed(self.of[p.machine], p.first, p.last) for p in self.plan.placement)


def _ring_of(
    fleet: Fleet, model: ModelCosts, demand: Demand, nodes: Sequence[int]
) -> _Found | None:
    """The best ring of some nodes; None if they hold none."""
    part = _only(fleet, nodes)
    try:
        return _Found(part, plan_ring(part, model, demand), tuple(nodes))
    except AtollError:
        return None


def _only(fleet: Fleet, nodes: Sequence[int]) -> Fleet:
    """The fleet with these nodes alone."""
    machines = tuple(fleet.machines[i] for i in nodes)
    names = {fleet.gateway.name, *(machine.name for machine in machines)}
    links = tuple(link for link in fleet.links if {link.source, link.target} <= names)
    return msgspec.structs.replace(fleet, machines=machines, links=links)


def _parted(fleet: Fleet, model: ModelCosts, each: Demand, n_rings: int) -> list[_Found] | None:
    """So many rings, each for its part of the streams; None if the nodes do not hold them."""
    if len(fleet.machines) <= EXACT_NODES:
        hosts = _hosts(fleet)
        groups = [
            [node for host in part for node in hosts[host]]
            for part in _best_parts(_by_hosts(fleet, model, each, hosts), n_rings)
        ]
    else:
        groups = _dealt(fleet, each, n_rings)
    found = [_ring_of(fleet, model, each, group) for group in groups]
    rings = [ring for ring in found if ring is not None]
    return rings if len(rings) == n_rings else None


def _hosts(fleet: Fleet) -> list[list[int]]:
    """Nodes by their hosts: rings on one host would take each other's cores."""
    found: dict[str, list[int]] = {}
    for i, machine in enumerate(fleet.machines):
        found.setdefault(machine.host or f" {i}", []).append(i)
    return list(found.values())


def _by_hosts(
    fleet: Fleet, model: ModelCosts, demand: Demand, hosts: Sequence[Sequence[int]]
) -> list[float]:
    """For each subset of hosts the shortest period of a ring with nodes of them all."""
    host_of = {node: host for host, nodes in enumerate(hosts) for node in nodes}
    found = [float("inf")] * (1 << len(hosts))
    for subset, period_s in enumerate(every_period(fleet, model, demand)):
        of = {host_of[i] for i in range(len(fleet.machines)) if subset >> i & 1}
        bits = sum(1 << host for host in of)
        found[bits] = min(found[bits], period_s)
    return found


def _best_parts(period_s: Sequence[float], n_rings: int) -> list[list[int]]:
    """The disjoint subsets with the greatest sum of 1 / period; empty if there are none.

    Args:
        period_s: For each subset, by its bits, the period of its ring; infinite without.
        n_rings: Subsets wanted.
    """
    size = len(period_s)
    rate = [1 / seconds for seconds in period_s]
    # best[s]: the greatest sum of k rates within s, and the subset of the last of them.
    best: list[list[tuple[float, int]]] = [[(0.0, 0)] * size]
    for _ in range(n_rings):
        before, found = best[-1], [(0.0, 0)] * size
        for nodes in range(1, size):
            part, top = nodes, (0.0, 0)
            while part:
                rest = before[nodes ^ part][0]
                if rate[part] and (rest or len(best) == 1) and rate[part] + rest > top[0]:
                    top = (rate[part] + rest, part)
                part = (part - 1) & nodes
            found[nodes] = top
        best.append(found)
    groups, left = [], size - 1
    for k in range(n_rings, 0, -1):
        part = best[k][left][1]
        if not part:
            return []
        groups.append([i for i in range(size.bit_length() - 1) if part >> i & 1])
        left ^= part
    return groups


def _dealt(fleet: Fleet, each: Demand, n_rings: int) -> list[list[int]]:
    """Nodes dealt out to so many groups, so that each has slow and fast ones; hosts stay whole."""
    rows = max(1, each.streams)
    groups: list[list[int]] = [[] for _ in range(n_rings)]
    held = [0.0] * n_rings

    def layers_a_second(nodes: Sequence[int]) -> float:
        # Nodes of one host take turns on its cores.
        return max(1 / fleet.machines[i].one_layer_s(rows) for i in nodes)

    for nodes in sorted(_hosts(fleet), key=layers_a_second, reverse=True)[:DEALT_MAX]:
        least = min(range(n_rings), key=lambda i: held[i])
        groups[least] += nodes
        held[least] += layers_a_second(nodes)
    return groups


def _of_the_rest(
    fleet: Fleet, model: ModelCosts, demand: Demand, rings: Sequence[_Found], more: int
) -> list[_Found]:
    """Rings of nodes without a part, on hosts that no ring uses."""
    found: list[_Found] = []
    for _ in range(more):
        used = {placed.machine for ring in (*rings, *found) for placed in ring.placement}
        hosts = {fleet.machines[i].host for i in used} | {fleet.gateway.host}
        rest = [
            i
            for i, machine in enumerate(fleet.machines)
            if i not in used and not (machine.host and machine.host in hosts)
        ][:DEALT_MAX]
        ring = _ring_of(fleet, model, demand, rest) if rest else None
        if ring is None:
            break
        found.append(ring)
    return found


def _told(fleet: Fleet, model: ModelCosts, demand: Demand, rings: Sequence[_Found]) -> RingsPlan:
    shared = share(fleet, model, demand, [ring.placement for ring in rings])
    told = []
    for ring, streams in zip(rings, shared.streams, strict=True):
        asked = msgspec.structs.replace(demand, streams=max(1, streams))
        predictor = Predictor(ring.fleet, model, asked)
        plan = RingPlan(
            ring.plan.placement,
            predictor.predict(ring.plan.placement),
            ring.plan.left_out,
            ring.plan.gap,
        )
        told.append(PlannedRing(ring.fleet, plan, ring.placement, streams))
    told.sort(key=lambda ring: (-ring.streams, ring.plan.prediction.token_s))
    used = {placed.machine for ring in told for placed in ring.placement}
    out = tuple(m.name for i, m in enumerate(fleet.machines) if i not in used)
    return RingsPlan(tuple(told), shared.tokens_per_s, out)
