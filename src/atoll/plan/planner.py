"""From a fleet to the best ring: filter, order, cut, check.

Up to `EXACT_MAX` nodes every subset is tried, with its shortest tour and its best
cut: the plan is the best there is, as long as layers are alike and no link's rate
bounds the ring. For more nodes a
search adds, drops and swaps nodes; how far its plan can be from the best is
reported as `gap`, against a bound that no plan can beat.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from atoll.domain.errors import CannotCut
from atoll.plan.bound import least_busy_s, least_lap_s
from atoll.plan.capacity import (
    NothingFits,
    check_memory,
    layer_need,
    layers_max,
    usable_bytes,
)
from atoll.plan.cut import Share, least_time, most_tokens, place, total_s
from atoll.plan.fleet import Demand, Fleet, ModelCosts, check_fleet
from atoll.plan.links import GATEWAY
from atoll.plan.order import EXACT_MAX, Matrix, all_tours, insertion, short_tour
from atoll.plan.predict import Placed, Prediction, Predictor, hops

CANDIDATES_MAX = 96
"""Of a large fleet, how many nodes the search looks at."""
STARTS_MAX = 3
SWAPS_MAX = 12
ROUNDS_MAX = 40
BISECTIONS = 20
SLACKS = (1.0, 1.1, 1.3)
"""Bounds on the slowest stage that are tried, as multiples of the least there is."""
TRIED_MAX = 32
"""Best rings with cuts of layers of mean size, of which real cuts are tried."""


@dataclass(frozen=True, slots=True)
class RingPlan:
    """A ring and what it will do.

    `left_out` are the names of nodes without a part. `gap` is how much longer its
    period may be than the best plan's, as a share of it; 0 where every ring was tried.
    """

    placement: tuple[Placed, ...]
    prediction: Prediction
    left_out: tuple[str, ...]
    gap: float


@dataclass(frozen=True, slots=True)
class _Ring:
    """A tour of places (node i is place i + 1) and the seconds of a period."""

    period_s: float
    tour: tuple[int, ...]
    counts: tuple[int, ...]


def plan_ring(fleet: Fleet, model: ModelCosts, demand: Demand) -> RingPlan:
    """The ring that gives all streams together the most tokens per second.

    For a single stream that is the one with the least time per token.

    Raises:
        BadRequest: The fleet's description is none.
        NothingFits: Too little memory; the message says how much, and what would fit.
        CannotCut: The model may be cut nowhere that the nodes' memory asks for.
    """
    check_fleet(fleet)
    check_memory(fleet, model, demand)
    search = _Search(fleet, model, demand)
    exact = len(search.nodes) <= EXACT_MAX
    rings = sorted(
        search.every_ring() if exact else search.some_rings(), key=lambda ring: ring.period_s
    )
    for ring in rings[:TRIED_MAX]:
        placement = search.real_cut(ring)
        if placement is not None:
            return search.told(placement, exact=exact)
    raise CannotCut(
        "no ring was found whose parts end where this model may be cut",
        hint="free more memory on the nodes, or add nodes",
    )


def every_period(fleet: Fleet, model: ModelCosts, demand: Demand) -> list[float]:
    """For each subset of a small fleet's nodes, by its bits, its best ring's period in seconds.

    All of the subset have a part in it; infinite where they hold none.

    Raises:
        BadRequest: The fleet's description is none.
        NothingFits: No node has memory for a layer.
    """
    check_fleet(fleet)
    search = _Search(fleet, model, demand)
    found = [float("inf")] * (1 << len(fleet.machines))
    for ring in search.every_ring():
        found[sum(1 << search.looked_at[spot - 1] for spot in ring.tour)] = ring.period_s
    return found


class _Search:
    def __init__(self, fleet: Fleet, model: ModelCosts, demand: Demand) -> None:
        self._fleet, self._model, self._demand = fleet, model, demand
        self._predictor = Predictor(fleet, model, demand)
        self._need = layer_need(model, demand)
        most = [layers_max(machine, self._need) for machine in fleet.machines]
        self.nodes = [i for i, layers in enumerate(most) if layers > 0]
        if not self.nodes:
            raise NothingFits("no node has memory for a layer", hint="add larger ones")
        self._most = most
        if len(self.nodes) > EXACT_MAX:
            self.looked_at = sorted(self.nodes, key=self._worth)[:CANDIDATES_MAX]
        else:
            self.looked_at = self.nodes
        # From here on nodes go by their place among these; the gateway's is 0.
        self._places = [GATEWAY, *(node + 1 for node in self.looked_at)]
        self._matrices: dict[int, Matrix] = {}

    # Costs

    def _share(self, node: int, rows: int) -> Share:
        machine = self._fleet.machines[node]
        return Share(machine.overhead_s, machine.one_layer_s(rows), self._most[node])

    def _lanes(self, nodes: Sequence[int]) -> tuple[int, int]:
        """Flights under way on a ring of these nodes, and the rows of each."""
        streams = max(1, self._demand.streams)
        placed = [Placed(node, 0, 0) for node in nodes]
        lanes = min(self._predictor.lanes(placed), streams)
        return lanes, -(-streams // lanes)

    def _matrix(self, n_nodes: int) -> Matrix:
        """Seconds from place to place for a flight on a ring of so many nodes."""
        rows = self._lanes(self.looked_at[:n_nodes])[1]
        if rows not in self._matrices:
            size = rows * self._model.row_bytes
            self._matrices[rows] = self._predictor.links.matrix(self._places, size)
        return self._matrices[rows]

    def _nodes(self, tour: Sequence[int]) -> list[int]:
        return [self.looked_at[spot - 1] for spot in tour]

    def _ring(self, tour: tuple[int, ...]) -> _Ring | None:
        """The best cut for a tour."""
        nodes = self._nodes(tour)
        lanes, rows = self._lanes(nodes)
        shares = [self._share(node, rows) for node in nodes]
        ring = self._cut(tour, shares, (lanes, rows), self._model.row_bytes)
        short = self._model.short_row_bytes
        if ring is None or lanes == 1 or not short:
            return ring
        # Where it sends short rows, links cost less than the cut was made for.
        if self._predictor.row_bytes(self._in_a_row(nodes, ring.counts)) != short:
            return ring
        again = self._cut(tour, shares, (lanes, rows), short)
        return again if again and again.period_s < ring.period_s else ring

    def _cut(
        self, tour: tuple[int, ...], shares: Sequence[Share], flights: tuple[int, int], size: int
    ) -> _Ring | None:
        """The best cut where a row has `size` bytes; its period is with the ring's own rows."""
        nodes, (lanes, rows) = self._nodes(tour), flights
        n_layers, predictor = self._model.n_layers, self._predictor
        if lanes == 1:
            counts = least_time(shares, n_layers)
        else:
            ends_s, uncut = predictor.ends_s(rows), self._in_a_row(nodes, [0] * len(nodes))
            links_s = (predictor.links.link(a, b).seconds(rows * size) for a, b in hops(uncut))
            sending = predictor.longest_sending(uncut, rows, row_bytes=size)
            counts = most_tokens(
                *(shares, n_layers),
                rest_s=ends_s + sum(links_s),
                lanes=lanes,
                floor_s=max(ends_s, sending[1]),
            )
        if counts is None:
            return None
        period_s = predictor.period_s(self._in_a_row(nodes, counts))[0]
        return _Ring(period_s, tour, tuple(counts))

    @staticmethod
    def _in_a_row(nodes: Sequence[int], counts: Sequence[int]) -> list[Placed]:
        found, at = [], 0
        for node, count in zip(nodes, counts, strict=True):
            found.append(Placed(node, at, at + count))
            at += count
        return found

    # Searches

    def every_ring(self) -> Iterator[_Ring]:
        """The best ring of each subset of nodes."""
        tours: dict[int, list[tuple[float, tuple[int, ...]]]] = {}
        for subset in range(1, 1 << len(self.looked_at)):
            matrix = self._matrix(subset.bit_count())
            if id(matrix) not in tours:
                tours[id(matrix)] = all_tours(matrix)
            ring = self._ring(tours[id(matrix)][subset][1])
            if ring is not None:
                yield ring

    def some_rings(self) -> list[_Ring]:
        """Good rings of a large fleet: the best of growing sets, made better by single moves."""
        grown = sorted(self._grown(), key=lambda ring: ring.period_s)
        return [self._climb(self._shortened(ring)) for ring in grown[:STARTS_MAX]]

    def _worth(self, node: int) -> float:
        """What a layer costs on a node that is filled, with its way from the gateway."""
        share = self._share(node, self._lanes([node])[1])
        links, size = self._predictor.links, self._model.row_bytes
        there, back = links.seconds(GATEWAY, node + 1, size), links.seconds(node + 1, GATEWAY, size)
        most = min(share.layers_max, self._model.n_layers)
        return share.layer_s + (share.overhead_s + min(there, back)) / most

    def _grown(self) -> Iterator[_Ring]:
        """Rings of the cheapest nodes, one more each time, from the first that hold the model."""
        tour: list[int] = []
        for spot in range(1, min(len(self.looked_at), self._model.n_layers) + 1):
            tour.insert(insertion(self._matrix(len(tour) + 1), tour, spot)[1], spot)
            ring = self._ring(tuple(tour))
            if ring is not None:
                yield ring

    def _shortened(self, ring: _Ring) -> _Ring:
        shorter = self._ring(short_tour(self._matrix(len(ring.tour)), ring.tour))
        return shorter if shorter and shorter.period_s < ring.period_s else ring

    def _climb(self, ring: _Ring) -> _Ring:
        """Drop, add or swap a node as long as that shortens the period."""
        for _ in range(ROUNDS_MAX):
            better = min(
                (found for tour in self._moves(ring) if (found := self._ring(tour))),
                key=lambda found: found.period_s,
                default=ring,
            )
            if better.period_s >= ring.period_s * (1 - 1e-9):
                break
            ring = self._shortened(better)
        return ring

    def _moves(self, ring: _Ring) -> Iterator[tuple[int, ...]]:
        others = [spot for spot in range(1, len(self._places)) if spot not in ring.tour]
        if len(ring.tour) < self._model.n_layers:
            for other in others:
                yield self._inserted(ring.tour, other)
        for spot in ring.tour:
            kept = tuple(s for s in ring.tour if s != spot)
            if kept:
                yield kept
            for other in others[:SWAPS_MAX]:
                yield self._inserted(kept, other)

    def _inserted(self, tour: tuple[int, ...], spot: int) -> tuple[int, ...]:
        at = insertion(self._matrix(len(tour) + 1), tour, spot)[1]
        return (*tour[:at], spot, *tour[at:])

    # Ends

    def real_cut(self, ring: _Ring) -> tuple[Placed, ...] | None:
        """The ring with cuts at boundaries, of layers as they are; None if there are none."""
        nodes = self._nodes(ring.tour)
        lanes, rows = self._lanes(nodes)
        shares = [self._share(node, rows) for node in nodes]
        weights = [self._predictor.weight(i, i + 1) for i in range(self._model.n_layers)]
        room = [usable_bytes(self._fleet.machines[node]) for node in nodes]

        def cut(bound_s: float) -> tuple[Placed, ...] | None:
            cuts = place(
                *(shares, self._need, room, weights, self._model.boundaries), bound_s=bound_s
            )
            if cuts is None:
                return None
            return tuple(Placed(n, a, b) for n, (a, b) in zip(nodes, cuts, strict=True))

        found = [cut(float("inf"))]
        if found[0] is None:
            return None
        if lanes > 1:
            low_s, high_s = 0.0, total_s(shares, [self._model.n_layers] * len(shares))
            for _ in range(BISECTIONS):
                middle_s = (low_s + high_s) / 2
                low_s, high_s = (low_s, middle_s) if cut(middle_s) else (middle_s, high_s)
            found += [cut(high_s * slack) for slack in SLACKS]
        real = [placement for placement in found if placement is not None]
        return min(real, key=lambda placement: self._predictor.period_s(placement)[0])

    def told(self, placement: tuple[Placed, ...], *, exact: bool) -> RingPlan:
        """The plan with its prediction."""
        inside = {placed.machine for placed in placement}
        out = [m.name for i, m in enumerate(self._fleet.machines) if i not in inside]
        gap = 0.0
        if not exact:
            bound_s = self._least_period_s()
            gap = max(0.0, self._predictor.period_s(placement)[0] / bound_s - 1)
        return RingPlan(placement, self._predictor.predict(placement), tuple(out), gap)

    def _least_period_s(self) -> float:
        """No ring of this fleet has a shorter one, whatever its number of lanes."""
        streams, n_layers = max(1, self._demand.streams), self._model.n_layers
        into = self._predictor.links.least_into(
            self._model.short_row_bytes or self._model.row_bytes
        )
        reach = [into[node + 1] for node in self.nodes]
        found = float("inf")
        for lanes in range(1, min(streams, n_layers + 1, len(self.nodes) + 1) + 1):
            rows = -(-streams // lanes)
            shares = [self._share(node, rows) for node in self.nodes]
            ends_s = self._predictor.ends_s(rows)
            lap_s = ends_s + least_lap_s(shares, reach, into[GATEWAY], n_layers)
            busy_s = max(ends_s, least_busy_s(shares, n_layers)) if lanes > 1 else 0.0
            found = min(found, max(lap_s, lanes * busy_s))
        return found
