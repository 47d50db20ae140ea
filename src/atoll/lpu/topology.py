"""How LPUs are joined: chips, links, hops, routes.

A node's chips are all connected to each other. Each chip has a few more ports, and the ports
of a node together are those of one switch of many ports: nodes of a group are all connected,
and so are racks. What is published is how many ports join what (`data/systems.toml`), not
which port goes where. Here port q of a node is on chip q modulo the node's chips, and ports
are taken in order of how far on the other node is, counted around; ports of a rack to other
racks likewise, first over its nodes and then over their chips.

Chips are numbered rack by rack, node by node.

Source: Abts et al., "A Software-defined Tensor Streaming Multiprocessor", ISCA 2022.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import combinations, pairwise

import msgspec

from atoll.domain.errors import BadRequest
from atoll.forecast.names import ByName
from atoll.lpu.figures import Seconds, Size, Sourced, decode, published
from atoll.lpu.machine import Chip
from atoll.lpu.parts import Count

CHIPS_MAX = 1 << 16


class Reach(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """So much memory is within so much time of a chip."""

    sram: Size
    latency: Seconds


class System(Sourced, frozen=True, kw_only=True):
    """A design of systems: at most so many `nodes` in a group, `node_ports` of each to the others
    of its group; at most so many `racks`, each a group, `rack_ports` of each to the others.
    `diameter`: hops at most, as published.
    """

    name: str
    aliases: tuple[str, ...] = ()
    chip: str
    node_chips: Count
    chip_ports: Count | None = None
    nodes: Count
    node_ports: Count | None = None
    racks: Count = 1
    rack_ports: Count | None = None
    diameter: Count | None = None
    reach: tuple[Reach, ...] = ()

    @property
    def chips(self) -> int:
        """Chips of the largest system of the design."""
        return self.node_chips * self.nodes * self.racks

    def reach_s(self, chip: Chip, chips: int) -> float:
        """Seconds within which a chip reaches the memory of so many chips.

        Raises:
            BadRequest: It is not published for so many.
        """
        for within in self.reach:
            if chips * chip.sram_bytes <= within.sram:
                return within.latency
        raise BadRequest(f"{self.name}: the latency among {chips} chips is not published")


@dataclass(frozen=True, slots=True)
class Link:
    """A link between two chips, of lower and higher number; both ways at once."""

    low: int
    high: int


class Topology:
    """Chips and the links between them; `outside` is how many ports of the system are free."""

    def __init__(self, system: System, nodes: int, racks: int) -> None:
        self.system = system
        self.nodes = nodes
        self.racks = racks
        self.chips = system.node_chips * nodes * racks
        self.links = tuple(_links(system, nodes, racks))
        self._parallel = Counter((link.low, link.high) for link in self.links)
        found: list[list[int]] = [[] for _ in range(self.chips)]
        for low, high in self._parallel:
            found[low].append(high)
            found[high].append(low)
        self._neighbours = tuple(tuple(sorted(chips)) for chips in found)

    def node(self, chip: int) -> int:
        """Number of the node in which a chip is, over all racks."""
        self._check(chip)
        return chip // self.system.node_chips

    def rack(self, chip: int) -> int:
        """Number of the rack in which a chip is."""
        return self.node(chip) // self.nodes

    def neighbours(self, chip: int) -> tuple[int, ...]:
        """Chips one hop away, in order."""
        self._check(chip)
        return self._neighbours[chip]

    def parallel(self, one: int, other: int) -> int:
        """Links between two chips."""
        return self._parallel[min(one, other), max(one, other)]

    @property
    def outside(self) -> int:
        """Ports of the system's chips that are joined to nothing in it."""
        ports = published(self.system.chip_ports, f"{self.system.name}: its chips' ports")
        per_node = self.system.node_chips * (self.system.node_chips - 1) // 2
        between = len(self.links) - per_node * self.nodes * self.racks
        return ports * self.chips - 2 * between

    def distances(self, start: int) -> tuple[int, ...]:
        """Hops from a chip to each chip; shape (chips,)."""
        self._check(start)
        found = {start: 0}
        queue = deque([start])
        while queue:
            chip = queue.popleft()
            for near in self._neighbours[chip]:
                if near not in found:
                    found[near] = found[chip] + 1
                    queue.append(near)
        return tuple(found[chip] for chip in range(self.chips))

    def hops(self, start: int, end: int) -> int:
        """Hops of the shortest route."""
        return len(self.route(start, end)) - 1

    def route(self, start: int, end: int) -> tuple[int, ...]:
        """Chips of the shortest route, both ends included; of several, always the same."""
        route = self._route(start, end, frozenset())
        assert route is not None, "every chip of a system is joined to every other"
        return route

    def disjoint_routes(self, start: int, end: int, *, most: int) -> list[tuple[int, ...]]:
        """Routes that share no link in the same direction, shortest first: what a long tensor is
        spread over. Links beside each other count once.
        """
        used: set[tuple[int, int]] = set()
        routes: list[tuple[int, ...]] = []
        while start != end and len(routes) < most:
            route = self._route(start, end, frozenset(used))
            if route is None:
                break
            routes.append(route)
            used.update(pairwise(route))
        return routes

    def _route(
        self, start: int, end: int, barred: frozenset[tuple[int, int]]
    ) -> tuple[int, ...] | None:
        self._check(start)
        self._check(end)
        came = {start: start}
        queue = deque([start])
        while queue and end not in came:
            chip = queue.popleft()
            for near in self._neighbours[chip]:
                if near not in came and (chip, near) not in barred:
                    came[near] = chip
                    queue.append(near)
        if end not in came:
            return None
        route = [end]
        while route[-1] != start:
            route.append(came[route[-1]])
        return tuple(reversed(route))

    @property
    def bisection(self) -> int:
        """Links between the first and the second half of the chips. Groups stay whole, but for
        the middle one of an odd number, so that this is near the least of all halvings.
        """
        half = self.chips // 2
        return sum(link.low < half <= link.high for link in self.links)

    def _check(self, chip: int) -> None:
        if not 0 <= chip < self.chips:
            raise BadRequest(f"{self.system.name} of {self.chips} chips has no chip {chip}")


def build(system: System, *, nodes: int | None = None, racks: int | None = None) -> Topology:
    """A system of the design, the largest unless told; with fewer nodes or racks, ports that
    would be free join the others by several links.

    Raises:
        BadRequest: There are no systems of that size, or how they are joined is not published.
    """
    nodes = system.nodes if nodes is None else nodes
    racks = system.racks if racks is None else racks
    for what, number, most in (("nodes", nodes, system.nodes), ("racks", racks, system.racks)):
        if not 1 <= number <= most:
            raise BadRequest(f"{system.name} has at most {most} {what}, and not {number}")
    if racks > 1 and nodes < system.nodes:
        raise BadRequest(f"{system.name}: racks are joined when they are full")
    return Topology(system, nodes, racks)


def _links(system: System, nodes: int, racks: int) -> Iterator[Link]:
    size = system.node_chips
    ports = published(system.chip_ports, f"{system.name}: how its chips are joined")
    for node in range(nodes * racks):
        first = node * size
        yield from (Link(first + a, first + b) for a, b in combinations(range(size), 2))
    if nodes > 1:
        each = published(system.node_ports, f"{system.name}: how its nodes are joined")
        for rack in range(racks):
            for (one, p), (other, q) in _all_to_all(nodes, each):
                low, high = (rack * nodes + one) * size, (rack * nodes + other) * size
                yield Link(low + p % size, high + q % size)
    if racks > 1:
        each = published(system.rack_ports, f"{system.name}: how its racks are joined")
        assert each <= ports * size * nodes
        for (one, p), (other, q) in _all_to_all(racks, each):
            yield Link(_rack_chip(size, nodes, one, p), _rack_chip(size, nodes, other, q))


def _rack_chip(size: int, nodes: int, rack: int, port: int) -> int:
    return (rack * nodes + port % nodes) * size + port // nodes % size


def _all_to_all(members: int, ports: int) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Which port of which member is joined to which of which other; as many links between every
    two as the ports allow.
    """
    links = ports // (members - 1)
    for one, other in combinations(range(members), 2):
        ahead, back = other - one, members - (other - one)
        for link in range(links):
            p, q = (ahead - 1) * links + link, (back - 1) * links + links - 1 - link
            yield (one, p), (other, q)


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    systems: tuple[System, ...] = ()


def parse_systems(text: str, *, source: str) -> ByName[System]:
    """The systems that a TOML file describes.

    Raises:
        BadRequest: It is no TOML of this form, or one needs more ports than its chips have.
    """
    found = decode(text, _File, source=source).systems
    for system in found:
        if system.chips > CHIPS_MAX:
            raise BadRequest(f"{source}: {system.name} has {system.chips} chips")
        node = system.node_chips * (system.chip_ports or 0)
        inside, outside = system.node_ports or 0, system.rack_ports or 0
        if inside * system.nodes + outside > node * system.nodes:
            raise BadRequest(f"{source}: {system.name} needs more ports than its chips have")
        for what, members, ports in (
            ("nodes", system.nodes, system.node_ports),
            ("racks", system.racks, system.rack_ports),
        ):
            if ports is not None and ports < members - 1:
                raise BadRequest(f"{source}: {ports} ports cannot join {members} {what} all to all")
    return ByName("system", found)


@cache
def shipped_systems() -> ByName[System]:
    """The systems that this package carries."""
    folder = resources.files("atoll.lpu").joinpath("data")
    text = folder.joinpath("systems.toml").read_text("utf-8")
    return parse_systems(text, source="systems.toml")
