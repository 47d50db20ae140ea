"""The links of a fleet as a table: every pair has one, measured or guessed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from atoll.plan.fleet import Fleet, Link

GATEWAY = 0
"""The gateway's place in the table; machine i of the fleet has place i + 1."""
ON_HOST = Link(0.0001, 125e6)
"""Between nodes of one host that were not measured. Timing links over loopback took 0.04 to
0.07 ms one way and carried 126 to 193 MB/s, on two cores."""


class LinkTable:
    """Seconds from node to node, by their places.

    A link that was measured in one direction only counts for both. A pair that was
    not measured is near where it shares a host; otherwise it is as far apart as the way
    over the gateway, a part of which that is unknown too is the fleet's default link.

    Args:
        fleet: The nodes and what is known of their links.
    """

    def __init__(self, fleet: Fleet) -> None:
        names = [fleet.gateway.name, *(machine.name for machine in fleet.machines)]
        places = {name: place for place, name in enumerate(names)}
        self.size = len(names)
        self._hosts = [fleet.gateway.host, *(machine.host for machine in fleet.machines)]
        self._sharing = {host for host, count in Counter(self._hosts).items() if host and count > 1}
        self._default = fleet.default_link
        self._known: dict[tuple[int, int], Link] = {}
        for entry in fleet.links:
            ends = places[entry.source], places[entry.target]
            self._known[ends] = Link(entry.latency_s, entry.bytes_per_s)
        for (a, b), link in list(self._known.items()):
            self._known.setdefault((b, a), link)

    def link(self, a: int, b: int) -> Link:
        """From place `a` to place `b`."""
        found = self._known.get((a, b))
        if found is not None:
            return found
        if a != b and self._hosts[a] == self._hosts[b] and self._hosts[a] in self._sharing:
            return ON_HOST
        if GATEWAY not in (a, b):
            there, on = self._known.get((a, GATEWAY)), self._known.get((GATEWAY, b))
            if there is not None or on is not None:
                there, on = there or self._default, on or self._default
                slower = min(there.bytes_per_s, on.bytes_per_s)
                return Link(there.latency_s + on.latency_s, slower)
        return self._default

    def seconds(self, a: int, b: int, size_bytes: float) -> float:
        """One way for a frame of this size."""
        return self.link(a, b).seconds(size_bytes)

    def matrix(self, places: Sequence[int], size_bytes: float) -> list[list[float]]:
        """`seconds` between these places, 0 from one to itself."""
        return [[0.0 if a == b else self.seconds(a, b, size_bytes) for b in places] for a in places]

    def least_into(self, size_bytes: float) -> list[float]:
        """For each place the shortest link that leads to it, from anywhere.

        A way over the gateway is no shorter than its second part.
        """
        found = [
            self.seconds(GATEWAY, place, size_bytes)
            if place
            else self._least_to_gateway(size_bytes)
            for place in range(self.size)
        ]
        for (_, b), link in self._known.items():
            found[b] = min(found[b], link.seconds(size_bytes))
        on_host_s = ON_HOST.seconds(size_bytes)
        for place, host in enumerate(self._hosts):
            if host in self._sharing:
                found[place] = min(found[place], on_host_s)
        return found

    def _least_to_gateway(self, size_bytes: float) -> float:
        others = range(1, self.size)
        return min((self.seconds(a, GATEWAY, size_bytes) for a in others), default=0.0)
