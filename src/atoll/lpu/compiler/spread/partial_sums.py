"""Partial sums of a group of chips are added, each chip a share of the rows.

Of a group that lies in several nodes, each node finishes a part of the rows. Within a node each
chip adds a piece of each part for all its chips; sums of parts of other nodes go over the links
between the nodes, through chips that have one, to the chips that finish them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from atoll.lpu.compiler.board import Need
from atoll.lpu.compiler.chain import Tensor
from atoll.lpu.compiler.spread.gateways import Gateway
from atoll.lpu.compiler.spread.line import Links
from atoll.lpu.compiler.spread.links import Arrival, Fabric
from atoll.lpu.compiler.spread.ports import Ports
from atoll.lpu.compiler.spread.reduce_scatter import Span
from atoll.lpu.program import SIDES, Number, Side

Term = tuple[Tensor, int]
"""Vectors of a tensor from one on."""
Hop = tuple[int, int, int]
"""A link: from which chip to which, and its lane."""


@dataclass(frozen=True, slots=True)
class Share:
    """Rows that a chip has in the end: row `rows.first` is vector `first` of the tensor."""

    chip: int
    rows: Span
    tensor: Tensor
    first: int


class PartialSums:
    """Reduce-scatters of groups of chips, one after the other, on boards that others use too."""

    def __init__(
        self,
        fabric: Fabric,
        ports: Ports,
        links: Links,
        *,
        node_chips: int,
        number: Number,
        relays: Sequence[int],
    ) -> None:
        """`links` between nodes; `relays` are chips that may pass on what others send."""
        self.fabric, self.ports, self.links = fabric, ports, links
        self.node_chips, self.number = node_chips, number
        self._relays: dict[int, list[int]] = {}
        for chip in relays:
            self._relays.setdefault(chip // node_chips, []).append(chip)
        self._port: Counter[int] = Counter()

    def scatter(self, held: Mapping[int, Tensor]) -> list[Share]:
        """Add what chips of a group hold, each the same rows; returns who has what."""
        count = next(iter(held.values())).count
        nodes: dict[int, list[int]] = {}
        for chip in sorted(held):
            nodes.setdefault(chip // self.node_chips, []).append(chip)
        found: list[Share] = []
        for (node, owners), part in zip(
            nodes.items(), Span(0, count).split(len(nodes)), strict=True
        ):
            terms = self._within(held, owners, part)
            for other, members in nodes.items():
                if other != node:
                    self._between(held, members, part, terms)
            for (chip, rows), of in terms.items():
                found.append(self._finish(chip, rows, of, SIDES[chip % 2]))
        return found

    def _within(
        self, held: Mapping[int, Tensor], members: Sequence[int], part: Span
    ) -> dict[tuple[int, Span], list[Term]]:
        """By chip and piece of a part of the rows, what chips of a node have of it."""
        found: dict[tuple[int, Span], list[Term]] = {}
        for chip, rows in zip(members, part.split(len(members)), strict=True):
            if not rows.count:
                continue
            terms: list[Term] = [(held[chip], rows.first)]
            for other in members:
                if other != chip:
                    target = self._arrival(chip, len(terms), rows.count)
                    source = held[other], rows.first
                    path = self._inside(other, chip, self._since(source), rows.count)
                    self._follow(path, source, (target, 0), rows.count)
                    terms.append((target, 0))
            found[chip, rows] = terms
        return found

    def _between(
        self,
        held: Mapping[int, Tensor],
        members: Sequence[int],
        part: Span,
        terms: dict[tuple[int, Span], list[Term]],
    ) -> None:
        """What another node has of a part of the rows, to the chips that finish it."""
        sums = {
            (chip, rows): self._finish(chip, rows, of, SIDES[(chip + 1) % 2])
            for (chip, rows), of in self._within(held, members, part).items()
        }
        for (owner, rows), of in terms.items():
            target = self._arrival(owner, len(of), rows.count)
            for share in sums.values():
                first = max(rows.first, share.rows.first)
                last = min(rows.first + rows.count, share.rows.first + share.rows.count)
                if first < last:
                    source = share.tensor, share.first + first - share.rows.first
                    self._route(
                        share.chip, owner, source, (target, first - rows.first), last - first
                    )
            of.append((target, 0))

    def _finish(self, chip: int, rows: Span, terms: Sequence[Term], side: Side) -> Share:
        if len(terms) == 1:
            return Share(chip, rows, *terms[0])
        # Ports have slices of their own, as far as there are as many.
        most = min(self.ports.count, self.fabric.timing.alus - 1)
        period = self.fabric.period(self.number)
        while len(terms) > 1:
            target = self.ports.take(chip, side, self.number, rows.count)
            some = terms[: most + 1]
            self.fabric.add(chip, some, target, count=rows.count, stride=period)
            terms = [(target, 0), *terms[most + 1 :]]
        return Share(chip, rows, target, 0)

    def _arrival(self, chip: int, port: int, count: int) -> Tensor:
        return self.ports.arrivals(chip, port, self.number, count)[0]

    def _route(self, chip: int, owner: int, source: Term, target: Term, count: int) -> None:
        """Vectors to a chip of another node, over that link between the nodes by which they are
        there first.
        """
        pair, at = (chip // self.node_chips, owner // self.node_chips), self._since(source)

        def path(link: Gateway) -> list[Hop]:
            across = link.source, link.target, link.lane
            return [*_direct(chip, link.source), across, *_direct(link.target, owner)]

        def arrives(link: Gateway) -> tuple[int, int]:
            return self._arrives(path(link), at, count), len(path(link))

        best = min(self.links[pair], key=arrives)
        before = self._inside(chip, best.source, at, count)
        across = best.source, best.target, best.lane
        at = self._arrives([*before, across], at, count)
        after = self._inside(best.target, owner, at, count)
        self._follow([*before, across, *after], source, target, count)

    def _inside(self, chip: int, other: int, at: int, count: int) -> list[Hop]:
        """To a chip of the same node: over their link, or where that is taken for longer than a
        hop takes, by another chip if they are there earlier.
        """
        direct, hop = _direct(chip, other), self.fabric.timing.chip.hop_cycles()
        arrives = self._arrives(direct, at, count)
        if arrives <= at + 2 * hop:
            return direct
        node = self._relays.get(chip // self.node_chips, [])
        paths = [[(chip, by, 0), (by, other, 0)] for by in node if by not in (chip, other)]
        return min([direct, *paths], key=lambda path: self._arrives(path, at, count))

    def _arrives(self, path: Sequence[Hop], at: int, count: int) -> int:
        """When the first of vectors that leave in a cycle is there, as far as links are free."""
        timing, cycles = self.fabric.timing, count * self.fabric.period(self.number)
        for chip, other, lane in path:
            link = Need(("link", other, lane), 1, timing.edge, cycles)
            at = self.fabric.boards[chip].first(at, [link]) + timing.chip.hop_cycles()
        return at

    @staticmethod
    def _since(term: Term) -> int:
        tensor, first = term
        return max(tensor.since(first), 0)

    def _follow(self, path: Sequence[Hop], source: Term, target: Term, count: int) -> None:
        """From chip to chip, by memory of those between."""
        for n, (chip, other, lane) in enumerate(path):
            there = target
            if n < len(path) - 1:
                self._port[other] += 1
                there = self._arrival(other, self._port[other], count), 0
            arrival = Arrival(other, there[0], there[1], lane, stream=chip)
            self.fabric.send(chip, source[0], [arrival], first=source[1], count=count, stream=other)
            source = there


def _direct(chip: int, other: int) -> list[Hop]:
    """Within a node."""
    return [] if chip == other else [(chip, other, 0)]
