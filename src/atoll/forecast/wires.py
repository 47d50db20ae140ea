"""Links by name, collectives as they were measured, and round trips between places.

`data/links.toml`: `[[links]]` have a bandwidth one way and a latency, `[[collectives]]` the
microseconds that an all-reduce of so many bytes took between so many devices of a system,
`[[round_trips]]` the milliseconds between two places.
"""

from __future__ import annotations

import math
from functools import cache
from importlib import resources
from itertools import pairwise

import msgspec

from atoll.domain.errors import BadRequest
from atoll.forecast.names import ByName
from atoll.forecast.quantities import RATE, TIME, parse_quantity


class Wire(msgspec.Struct, frozen=True):
    """A kind of link: bytes a second one way (`down`: the other way, where it differs), and
    seconds; 0: not published.
    """

    name: str
    bandwidth: float
    latency: float
    down: float = 0.0
    aliases: tuple[str, ...] = ()
    source: str = ""
    note: str = ""


class Collective(msgspec.Struct, frozen=True):
    """All-reduces between `ways` devices of a system: microseconds by bytes, both rising."""

    system: str
    ways: int
    bytes: tuple[float, ...]
    us: tuple[float, ...]
    source: str
    engine: str = ""

    def seconds(self, size_bytes: float) -> float:
        """For so many bytes: between measured sizes along a straight line of logarithms, below
        the least as long as that, beyond the largest in proportion: what one kernel does for
        small messages, which `Wires.all_reduce_s` leaves where the links allow more.
        """
        if size_bytes <= self.bytes[0]:
            return self.us[0] / 1e6
        points = list(zip(self.bytes, self.us, strict=True))
        for (low, low_us), (high, high_us) in pairwise(points):
            if size_bytes <= high:
                share = math.log(size_bytes / low) / math.log(high / low)
                return math.exp(math.log(low_us) + share * math.log(high_us / low_us)) / 1e6
        return self.us[-1] * size_bytes / self.bytes[-1] / 1e6


class RoundTrip(msgspec.Struct, frozen=True):
    """Milliseconds between two places, there and back."""

    between: tuple[str, str]
    ms: float
    source: str


class _Wire(msgspec.Struct, frozen=True):
    name: str
    source: str
    bandwidth: str = ""
    latency: str = ""
    down: str = ""
    aliases: tuple[str, ...] = ()
    note: str = ""


class _File(msgspec.Struct, frozen=True):
    links: tuple[_Wire, ...] = ()
    collectives: tuple[Collective, ...] = ()
    round_trips: tuple[RoundTrip, ...] = ()


class Wires:
    """What is known of links.

    Args:
        links: By name.
        collectives: As measured; of those of one system the first engine's count.
        trips: Between places.
    """

    def __init__(
        self,
        links: ByName[Wire],
        collectives: tuple[Collective, ...],
        trips: tuple[RoundTrip, ...],
    ) -> None:
        self.links = links
        self._collectives: dict[str, dict[int, Collective]] = {}
        for one in collectives:
            self._collectives.setdefault(one.system, {}).setdefault(one.ways, one)
        self._trips = {frozenset(trip.between): trip for trip in trips}

    def all_reduce_s(
        self, system: str, ways: int, size_bytes: float, *, link: float = 0.0
    ) -> float | None:
        """Seconds of an all-reduce; None: no such system was measured.

        For a number of devices that was not measured, that of the nearest one stands. What is
        larger than was measured goes round a ring where that is sooner: each device passes on
        2 (n - 1) / n of it at `link` bytes a second (Patarasuk and Yuan, 2009), 0: not known.
        """
        measured = self._collectives.get(system)
        if not measured:
            return None
        nearest = min(measured, key=lambda n: abs(math.log(n / ways)))
        found = measured[nearest]
        largest = found.bytes[-1]
        if not link or size_bytes <= largest:
            return found.seconds(size_bytes)
        ring_s = 2 * (ways - 1) / ways * (size_bytes - largest) / link
        return min(found.seconds(size_bytes), found.seconds(largest) + ring_s)

    def round_trip_s(self, one: str, other: str) -> float:
        """Seconds there and back.

        Raises:
            BadRequest: That way is not known.
        """
        trip = self._trips.get(frozenset((one, other)))
        if trip is None:
            places = sorted({place for pair in self._trips for place in pair})
            raise BadRequest(
                f"the round trip between {one} and {other} is not known",
                hint=f"places are {', '.join(places)}",
            )
        return trip.ms / 1e3


def parse_way(text: str, wires: Wires, *, where: str) -> float:
    """One way between machines, seconds: a time, a kind of link, or two places.

    Args:
        text: `20 ms`, `Home Wi-Fi LAN`, or `us-east-1 to eu-west-1`.
        wires: What is known of links and places.
        where: What the way belongs to, for the message.

    Raises:
        BadRequest: It is none of these, or the link's latency is not published.
    """
    one, to, other = text.partition(" to ")
    if to:
        return wires.round_trip_s(one.strip(), other.strip()) / 2
    wire = wires.links.get(text)
    if wire is None:
        return parse_quantity(text, TIME, where=where)
    if not wire.latency:
        raise BadRequest(
            f"{where}: the latency of {wire.name} is not published", hint="write a time, like 20 ms"
        )
    return wire.latency


def parse_wires(text: str, *, source: str) -> Wires:
    """What a TOML file describes.

    Raises:
        BadRequest: It is no TOML of this form, or a quantity has no unit or is absurd.
    """
    try:
        found = msgspec.toml.decode(text, type=_File)
    except msgspec.MsgspecError as error:
        raise BadRequest(f"{source} cannot be read: {error}") from error
    for one in found.collectives:
        rising = all(b > a > 0 for a, b in pairwise(one.bytes)) and one.bytes
        if not rising or len(one.bytes) != len(one.us) or min(one.us) <= 0:
            raise BadRequest(f"{source}: an all-reduce of {one.system} is not of rising sizes")
    return Wires(ByName("link", map(_wire, found.links)), found.collectives, found.round_trips)


def _wire(entry: _Wire) -> Wire:
    def rate(text: str) -> float:
        return parse_quantity(text, RATE, where=entry.name) if text else 0.0

    return Wire(
        name=entry.name,
        bandwidth=rate(entry.bandwidth),
        latency=parse_quantity(entry.latency, TIME, where=entry.name) if entry.latency else 0.0,
        down=rate(entry.down),
        aliases=entry.aliases,
        source=entry.source,
        note=entry.note,
    )


@cache
def shipped_wires() -> Wires:
    """What this package carries."""
    text = resources.files("atoll.forecast").joinpath("data", "links.toml").read_text("utf-8")
    return parse_wires(text, source="links.toml")
