"""What a placement will do: time per token, tokens per second, time to the first token.

A step of the ring is the ends, then a link and a stage in turn, and the link
back. A stage takes `overhead + layers x t(rows)`; a link takes its latency, and
the frame's bytes at its rate. That is the model of design section 5, and of
pipeline serving in general (Petals, arXiv:2209.01188, section 3.2; prima.cpp,
arXiv:2504.08791, section 3.2).

Several streams go round in flights of as many rows. As many flights are on their
way as there are stages and ends, unless all share one host's cores; a flight
starts again when it is back, and when the slowest stage has served all others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from atoll.domain.measure import interpolated
from atoll.plan.chunks import ChunkCosts, Chunks, choose_chunks
from atoll.plan.fleet import Demand, Fleet, ModelCosts
from atoll.plan.links import GATEWAY, LinkTable

ON_ONE_HOST = " on one host"
"""What stands behind the names of those who share its cores, where they are the bound."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Machine number `machine` of the fleet computes layers [first, last)."""

    machine: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class StagePrediction:
    """A stage at one step: its own time, and that of the link to it, seconds."""

    name: str
    first: int
    last: int
    step_s: float
    link_s: float


@dataclass(frozen=True, slots=True)
class HopPrediction:
    """A link of the ring: `delay_s` one way, its rate, and a lone stream's window on it."""

    source: str
    target: str
    delay_s: float
    bytes_per_s: float
    window_s: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a placement is expected to do.

    `token_s` is the time per token of one stream alone, `tokens_per_s` what all the
    streams of the demand get together, `first_token_s` the time to the first token
    of a prompt on an idle ring. `limit` names what bounds the tokens per second:
    a node, those who share a host, a link's rate, or "distance". `hops` are the links
    in their order, from the gateway's first to the one back to it. The largest chunk of a
    prompt takes the busiest node `chunk_s`, and the slowest link `chunk_link_s` for its bytes
    in long rows; where that is more, `short_rows` are sent. `chunks` are those chosen.
    """

    token_s: float
    tokens_per_s: float
    first_token_s: float
    ends_s: float
    back_s: float
    stages: tuple[StagePrediction, ...]
    limit: str
    hops: tuple[HopPrediction, ...]
    chunk_s: float
    chunk_link_s: float
    short_rows: bool
    chunks: Chunks


class Predictor:
    """Predicts placements of one model on one fleet.

    Args:
        fleet: Checked.
        model: The model's costs.
        demand: What is asked of the ring.
    """

    def __init__(self, fleet: Fleet, model: ModelCosts, demand: Demand) -> None:
        self.fleet, self.model, self.demand = fleet, model, demand
        self.links = LinkTable(fleet)
        self._names = [fleet.gateway.name, *(machine.name for machine in fleet.machines)]
        total = sum(model.layer_bytes)
        mean = total / model.n_layers if total else 0.0
        # A layer with more weights takes longer, in proportion.
        self._weights = [size / mean if mean else 1.0 for size in model.layer_bytes]
        self._up_to = [0.0]
        for weight in self._weights:
            self._up_to.append(self._up_to[-1] + weight)

    def weight(self, first: int, last: int) -> float:
        """Layers [first, last), counted in layers of mean size."""
        return self._up_to[last] - self._up_to[first]

    def stage_s(self, placed: Placed, rows: int) -> float:
        """One step of a stage."""
        machine = self.fleet.machines[placed.machine]
        layers = self.weight(placed.first, placed.last)
        return machine.overhead_s + layers * machine.one_layer_s(rows)

    def ends_s(self, rows: int) -> float:
        """The gateway's part of a step."""
        return interpolated(self.fleet.gateway.ends_s, rows)

    def row_bytes(self, placement: Sequence[Placed]) -> int:
        """A row on this ring's wire: short where prompts would wait for a link else.

        That is where a link takes longer to carry a full chunk than any node to compute it.
        """
        full, short = self.model.row_bytes, self.model.short_row_bytes
        if not short:
            return full
        chunk = max(1, self.demand.chunk_rows)
        sending = self.longest_sending(placement, chunk, row_bytes=full)
        return short if sending[1] > self._busiest_node(placement, chunk)[1] else full

    def hops_s(self, placement: Sequence[Placed], rows: int) -> list[float]:
        """The links of a lap, from the gateway's first to the one back to it."""
        size = rows * self.row_bytes(placement)
        return [self.links.seconds(a, b, size) for a, b in hops(placement)]

    def lap_s(self, placement: Sequence[Placed], rows: int) -> float:
        """One flight of `rows` rows once round, alone."""
        stages = sum(self.stage_s(placed, rows) for placed in placement)
        return self.ends_s(rows) + stages + sum(self.hops_s(placement, rows))

    def lanes(self, placement: Sequence[Placed]) -> int:
        """Flights on their way at once; one where all share a host's cores."""
        hosts = {self._host(placed) for placed in placement}
        return 1 if len(hosts) == 1 and hosts != {""} else len(placement) + 1

    def period_s(self, placement: Sequence[Placed]) -> tuple[float, int, str]:
        """Seconds between two steps of each stream of the demand, and what bounds them.

        Returns:
            Seconds, the streams in a flight, and the name of the bound.
        """
        streams = max(1, self.demand.streams)
        lanes = min(self.lanes(placement), streams)
        rows = -(-streams // lanes)
        lap_s = self.lap_s(placement, rows)
        busiest, busy_s = self._busiest(placement, rows)
        if lanes * busy_s > lap_s:
            return lanes * busy_s, rows, busiest
        links_s = sum(self.hops_s(placement, rows))
        return lap_s, rows, "distance" if links_s > lap_s / 2 else busiest

    def predict(self, placement: Sequence[Placed]) -> Prediction:
        """All that is foretold of a placement."""
        hops_s, period_s = self.hops_s(placement, 1), self.period_s(placement)
        machines, chunk = self.fleet.machines, max(1, self.demand.chunk_rows)
        costs, chunks = self._chunk_costs(placement), self.chunks(placement)
        full = self.model.row_bytes
        return Prediction(
            token_s=self.lap_s(placement, 1),
            tokens_per_s=max(1, self.demand.streams) / period_s[0],
            first_token_s=costs.enter_s(max(1, self.demand.prompt), chunks.rows),
            ends_s=self.ends_s(1),
            back_s=hops_s[-1],
            stages=tuple(
                StagePrediction(
                    machines[placed.machine].name,
                    *(placed.first, placed.last),
                    self.stage_s(placed, 1),
                    hop_s,
                )
                for placed, hop_s in zip(placement, hops_s, strict=False)
            ),
            limit=period_s[2],
            chunk_s=self._busiest_node(placement, chunk)[1],
            chunk_link_s=self.longest_sending(placement, chunk, row_bytes=full)[1],
            short_rows=self.row_bytes(placement) != full,
            chunks=chunks,
            hops=tuple(
                HopPrediction(
                    *(self._names[a], self._names[b]),
                    *(self.links.link(a, b).latency_s, self.links.link(a, b).bytes_per_s),
                    hop_s,
                )
                for (a, b), hop_s in zip(hops(placement), hops_s, strict=True)
            ),
        )

    def chunks(self, placement: Sequence[Placed]) -> Chunks:
        """In which chunks prompts are to enter."""
        demand = self.demand
        return choose_chunks(
            self._chunk_costs(placement),
            rows_max=max(1, demand.chunk_rows),
            context=demand.context,
            hold_s=demand.hold_s,
            fixed=not demand.chunk_auto,
        )

    def _chunk_costs(self, placement: Sequence[Placed]) -> ChunkCosts:
        def lap_s(rows: int) -> float:
            return self.lap_s(placement, rows)

        def held_s(rows: int) -> float:
            return self._busiest(placement, rows)[1]

        # The slowest stage sets the pace, unless all take turns on the same cores.
        return ChunkCosts(lap_s, lap_s if self.lanes(placement) == 1 else held_s, held_s)

    def _host(self, placed: Placed) -> str:
        return self.fleet.machines[placed.machine].host

    def _busiest(self, placement: Sequence[Placed], rows: int) -> tuple[str, float]:
        """Who is busy longest with a flight: a node, those of one host, or a link."""
        node, sent = self._busiest_node(placement, rows), self.longest_sending(placement, rows)
        return sent if sent[1] > node[1] else node

    def _busiest_node(self, placement: Sequence[Placed], rows: int) -> tuple[str, float]:
        """Who computes longest at a flight; nodes of one host take turns on its cores."""
        gateway, machines = self.fleet.gateway, self.fleet.machines
        work = [(gateway.host, gateway.name, self.ends_s(rows))]
        work += [
            (machines[p.machine].host, machines[p.machine].name, self.stage_s(p, rows))
            for p in placement
        ]
        names: defaultdict[str, list[str]] = defaultdict(list)
        busy: defaultdict[str, float] = defaultdict(float)
        for host, name, seconds in work:
            names[host or name].append(name)
            busy[host or name] += seconds
        busiest = max(busy, key=lambda key: busy[key])
        together = names[busiest]
        label = together[0] if len(together) == 1 else ", ".join(together) + ON_ONE_HOST
        return label, busy[busiest]

    def longest_sending(
        self, placement: Sequence[Placed], rows: int, *, row_bytes: int = 0
    ) -> tuple[str, float]:
        """The link that takes longest to put a flight's bytes on the line, and that time.

        Args:
            placement: The ring.
            rows: Rows of the flight.
            row_bytes: Bytes of each; 0: as this ring sends them.
        """
        names = self._names
        size = rows * (row_bytes or self.row_bytes(placement))
        return max(
            (
                (f"the link {names[a]} to {names[b]}", size / self.links.link(a, b).bytes_per_s)
                for a, b in hops(placement)
            ),
            key=lambda item: item[1],
        )


def hops(placement: Sequence[Placed]) -> Iterator[tuple[int, int]]:
    """The links of a lap, by the places of their ends in the table."""
    return pairwise([GATEWAY, *(placed.machine + 1 for placed in placement), GATEWAY])
