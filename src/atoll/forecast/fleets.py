"""Fleets in a line: `8 x H100 SXM`, `576 x Groq LPU v1`, `6 x RTX 4090 @ 40ms`.

A fleet without `@` is one machine, or chips of one system; with it, machines of their own,
so far apart, one way, in a ring: a time, a kind of link or two places of the catalogue
(`@ us-east-1 to eu-west-1`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from atoll.domain.errors import BadRequest
from atoll.forecast.devices import Device
from atoll.forecast.names import ByName
from atoll.forecast.wires import parse_way, shipped_wires

COUNT_MAX = 1_000_000
_LINE = re.compile(r"\s*(?:(?P<n>\d{1,9})\s*[x*]\s*)?(?P<device>[^@]+?)\s*(?:@\s*(?P<way>.+?)\s*)?")


@dataclass(frozen=True, slots=True)
class FleetLine:
    """`n` devices; `way_s` is one way between neighbours of a ring, None: one machine."""

    name: str
    device: Device
    n: int
    way_s: float | None

    @property
    def is_ring(self) -> bool:
        """Whether machines of their own form a ring."""
        return self.way_s is not None

    @property
    def memory(self) -> float:
        """Of all devices together, bytes."""
        return self.n * self.device.memory


def parse_fleet_line(text: str, devices: ByName[Device]) -> FleetLine:
    """The fleet that a line describes.

    Raises:
        BadRequest: It is no such line, or names no device; the message has the nearest name.
    """
    match = _LINE.fullmatch(text)
    if match is None or not (device_name := match["device"].strip()):
        raise BadRequest(
            f"{text!r} describes no fleet",
            hint="write it like '8 x H100 SXM', or '6 x RTX 4090 @ 40ms'",
        )
    n = int(match["n"] or 1)
    if not 1 <= n <= COUNT_MAX:
        raise BadRequest(f"{text!r}: a fleet has 1 to {COUNT_MAX} devices")
    device = devices.find(device_name)
    way = match["way"]
    way_s = None if way is None else parse_way(way, shipped_wires(), where=text.strip())
    return FleetLine(text.strip(), device, n, way_s)
