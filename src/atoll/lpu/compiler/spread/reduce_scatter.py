"""All-reduce of long vectors: reduce-scatter and all-gather over nodes and their chips.

Of the vectors, each node has a slice to finish, of that each link between two nodes a share,
and of each share every chip of the node a piece.

1. Within a node, the chip with a link to another node adds that share of the other's slice, for
   all chips; and each chip its pieces of its own node's slice.
2. These sums go over the links.
3. Within the target node, what came is added piece by piece, each by the chip whose it is.
4. The pieces go to the others of the node, then shares over the links, then to all chips of the
   other nodes.

Among nodes these are six hops, in a node two.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from atoll.lpu.compiler.chain import Tensor
from atoll.lpu.compiler.spread.gateways import Gateway, chips_of, gateways
from atoll.lpu.compiler.spread.links import Arrival, Fabric
from atoll.lpu.compiler.spread.ports import Ports
from atoll.lpu.topology import Topology


@dataclass(frozen=True, slots=True)
class Span:
    """Vectors `first` to `first + count - 1`."""

    first: int
    count: int

    def split(self, parts: int) -> list[Span]:
        """As even parts as there are, the longer ones first; some may be empty."""
        each, more = divmod(self.count, parts)
        firsts = [self.first + i * each + min(i, more) for i in range(parts)]
        return [Span(first, each + (i < more)) for i, first in enumerate(firsts)]


@dataclass(frozen=True, slots=True)
class Shares:
    """Which vectors are whose: `shares[node][link]` of the links to a node, in their order, and
    `pieces[node][link][i]` of chip i of the node.
    """

    shares: tuple[tuple[Span, ...], ...]
    pieces: tuple[tuple[tuple[Span, ...], ...], ...]

    @classmethod
    def of(cls, topology: Topology, vectors: int, links: int) -> Shares:
        """Of vectors among the nodes and chips of a topology with `links` between two nodes."""
        size = topology.system.node_chips
        nodes = Span(0, vectors).split(topology.nodes)
        shares = [node.split(links) for node in nodes]
        pieces = [[tuple(share.split(size)) for share in of] for of in shares]
        return cls(tuple(map(tuple, shares)), tuple(map(tuple, pieces)))


def scatter(
    fabric: Fabric, ports: Ports, topology: Topology, inputs: list[Tensor], outputs: list[Tensor]
) -> None:
    """Schedule it on a fabric.

    Args:
        fabric: Takes the transfers and sums.
        ports: Memory for what is on the way.
        topology: Nodes all joined to each other.
        inputs: Partial sums of each chip.
        outputs: Where the sums are wanted.
    """
    links = gateways(topology)
    between = min((len(found) for found in links.values()), default=1)
    shares = Shares.of(topology, inputs[0].count, between)
    work = _Scatter(fabric, ports, topology, inputs=inputs, outputs=outputs, shares=shares)
    work.within_nodes({pair: found[:between] for pair, found in links.items()})
    work.between_nodes()
    work.within_targets()
    work.gather({pair: found[:between] for pair, found in links.items()})


@dataclass(slots=True)
class _Sum:
    """What a chip has added of vectors: vector `span.first` is at `at` of the tensor."""

    span: Span
    tensor: Tensor
    at: int


Links = dict[tuple[int, int], tuple[Gateway, ...]]


class _Scatter:
    def __init__(
        self,
        fabric: Fabric,
        ports: Ports,
        topology: Topology,
        *,
        inputs: list[Tensor],
        outputs: list[Tensor],
        shares: Shares,
    ) -> None:
        self.fabric, self.ports, self.topology = fabric, ports, topology
        self.inputs, self.outputs, self.shares = inputs, outputs, shares
        self.number = inputs[0].number
        self.period = fabric.period(self.number)
        self.size = topology.system.node_chips
        self.outgoing: list[tuple[Gateway, int, _Sum]] = []
        self.own: dict[int, list[tuple[int, _Sum]]] = defaultdict(list)
        self.came: dict[int, list[tuple[int, _Sum]]] = defaultdict(list)

    def within_nodes(self, links: Links) -> None:
        """Each chip adds what it is to send to other nodes, and its pieces of its own node's."""
        for (node, other), found in links.items():
            for link, gateway in enumerate(found):
                span = self.shares.shares[other][link]
                if span.count:
                    added = self._collect(gateway.source, node, span, self.inputs)
                    self.outgoing.append((gateway, link, added))
        for chip, link, span in self._pieces():
            node = self.topology.node(chip)
            alone = self.topology.nodes == 1
            added = self._collect(chip, node, span, self.inputs, whole=alone)
            self.own[chip].append((link, added))

    def between_nodes(self) -> None:
        """Over all links at once."""
        for gateway, link, added in self.outgoing:
            span, chip = added.span, gateway.target
            port = self.size + len(self.came[chip])
            target, stream = self.ports.arrivals(chip, port, self.number, span.count)
            arrival = Arrival(chip, target, lane=gateway.lane, stream=stream)
            self.fabric.send(
                gateway.source, added.tensor, [arrival], first=added.at, count=span.count
            )
            self.came[chip].append((link, _Sum(span, target, 0)))

    def within_targets(self) -> None:
        """Each chip adds up its pieces of what came from other nodes, and its own node's."""
        if self.topology.nodes == 1:
            return
        subtotals = {chip: self._subtotals(chip) for chip in range(self.topology.chips)}
        for chip, found in self.own.items():
            node = self.topology.node(chip)
            for link, own in found:
                terms = [(own.tensor, own.at)]
                for other in chips_of(self.topology, node):
                    held = subtotals[other].get(link)
                    if held is None:
                        continue
                    at = held.at + own.span.first - held.span.first
                    if other == chip:
                        terms.append((held.tensor, at))
                    else:
                        terms.append((self._bring(other, chip, held.tensor, at, own.span), 0))
                first, count = own.span.first, own.span.count
                out = self.outputs[chip]
                self.fabric.add(chip, terms, out, first=first, count=count, stride=self.period)

    def gather(self, links: Links) -> None:
        """Finished pieces to all chips."""
        for chip, _, span in self._pieces():
            self._spread(chip, span)
        spans: list[tuple[int, Span]] = []
        for (node, _), found in links.items():
            for link, gateway in enumerate(found):
                span = self.shares.shares[node][link]
                if span.count:
                    self._copy(gateway.source, [gateway.target], span, gateway.lane)
                    spans.append((gateway.target, span))
        for chip, span in spans:
            self._spread(chip, span)

    def _pieces(self) -> Iterator[tuple[int, int, Span]]:
        """Chip, link and vectors of all pieces that are not empty."""
        for chip in range(self.topology.chips):
            node, i = divmod(chip, self.size)
            for link, pieces in enumerate(self.shares.pieces[node]):
                if pieces[i].count:
                    yield chip, link, pieces[i]

    def _collect(
        self, chip: int, node: int, span: Span, held: list[Tensor], *, whole: bool = False
    ) -> _Sum:
        """The sum on a chip of vectors of all chips of the node."""
        terms = [
            (held[chip], span.first)
            if other == chip
            else (self._bring(other, chip, held[other], span.first, span), 0)
            for other in chips_of(self.topology, node)
        ]
        target = self.outputs[chip]
        at = span.first
        if not whole:
            target, at = self.ports.take(chip, "east", self.number, span.count), 0
        self.fabric.add(chip, terms, target, first=at, count=span.count, stride=self.period)
        return _Sum(span, target, at)

    def _subtotals(self, chip: int) -> dict[int, _Sum]:
        """By link, what came to a chip from all nodes."""
        grouped: dict[int, list[_Sum]] = defaultdict(list)
        for link, added in self.came[chip]:
            grouped[link].append(added)
        found: dict[int, _Sum] = {}
        for link, sums in sorted(grouped.items()):
            found[link] = sums[0]
            if len(sums) > 1:
                span = sums[0].span
                target = self.ports.take(chip, "west", self.number, span.count)
                terms = [(added.tensor, added.at) for added in sums]
                self.fabric.add(chip, terms, target, count=span.count, stride=self.period)
                found[link] = _Sum(span, target, 0)
        return found

    def _bring(self, source: int, chip: int, tensor: Tensor, first: int, span: Span) -> Tensor:
        """Vectors from another chip of the node."""
        port = (source - chip) % self.size
        target, stream = self.ports.arrivals(chip, port, self.number, span.count)
        arrival = Arrival(chip, target, stream=stream)
        self.fabric.send(source, tensor, [arrival], first=first, count=span.count)
        return target

    def _spread(self, chip: int, span: Span) -> None:
        """Finished vectors to the others of a chip's node."""
        others = [c for c in chips_of(self.topology, self.topology.node(chip)) if c != chip]
        if others:
            self._copy(chip, others, span, 0)

    def _copy(self, chip: int, others: list[int], span: Span, lane: int) -> None:
        streams = self.fabric.timing.assumed.link_streams
        arrivals = [
            Arrival(o, self.outputs[o], span.first, lane, stream=chip % streams) for o in others
        ]
        self.fabric.send(chip, self.outputs[chip], arrivals, first=span.first, count=span.count)
