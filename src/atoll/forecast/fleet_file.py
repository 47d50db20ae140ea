"""Fleets of several parts, and what befalls them: in a line, or as TOML.

In a line, parts stand between plus signs: `8 x H100 SXM + 60 x RTX 4090 @ 20 ms`. As TOML:

    [[parts]]
    fleet = "8 x H100 SXM"
    count = 2                     # servers of eight

    [[parts]]
    fleet = "60 x RTX 4090 @ 20 ms"
    machines = 3                  # of a ring; default: as few as hold the model
    leave = 0.05                  # share of machines that leave in an hour
    back = "10 min"               # until another comes, on average

    [[parts]]
    fleet = "8 x H200 SXM"
    caches = ["1 TB @ 50 GB/s"]   # memory for caches beside the accelerators'

    [[parts]]
    ring = ["2 x RTX 4090", "1 x Apple M3 Ultra (80c)"]
    way = "5 ms"

    [parts.drafts]
    depth = 4
    right = 0.7
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

import msgspec

from atoll.domain.errors import BadRequest
from atoll.forecast.devices import Device, shipped_devices
from atoll.forecast.drafts import Drafts
from atoll.forecast.fleets import COUNT_MAX, FleetLine, parse_fleet_line
from atoll.forecast.names import ByName
from atoll.forecast.quantities import RATE, SIZE, TIME, parse_quantity
from atoll.forecast.wires import parse_way, shipped_wires

PARTS_MAX = 100
STREAMS_MAX = 1 << 16
Role = Literal["all", "prefill", "decode"]
Software = Literal["served", "tuned"]
"""As usual servers run (vLLM), or as tuned submissions do (MLPerf's)."""

BACK_S = 600.0
"""Until another machine comes in place of one that left, unless a fleet says."""
NO_DRAFTS = Drafts()
TAKEOVER_S = 4.1
"""From a machine's silent end until another has its part and its caches are computed again:
this project's ring, slowest of twenty (`python -m bench failover`: silent_pause_s_p95) less
what it computed. A machine that says that it ends is replaced in 0.8 s.
"""


@dataclass(frozen=True, slots=True)
class CacheTier:
    """Memory of one system for caches: bytes, and bytes a second at which they are copied.

    `pool` is the memory pool that it is, if it is one of the catalogue: nobody has published what
    such a pool was measured to give, so that what follows from it is a bound.
    """

    bytes: float
    rate: float
    pool: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """Machines of one kind, or rings alike.

    `line` is what is written; `ring` are the machines of a ring of several kinds (empty: they
    are those of `line`). `count` systems: servers, or rings of `ring`. `machines` of a ring, 0:
    as few as hold the model. `leave` is the share of machines that leave in an hour, `back_s`
    the mean time until another comes, `takeover_s` that in which another takes a part.
    `streams` at once, 0: what is usual for the kind. `caches` are tiers of memory that keep
    beginnings of prompts, beside the machines' own; `reuse` says whether any are kept.
    """

    line: FleetLine
    ring: tuple[Device, ...] = ()
    count: int = 1
    machines: int = 0
    role: Role = "all"
    software: Software = "served"
    leave: float = 0.0
    back_s: float = BACK_S
    takeover_s: float = TAKEOVER_S
    streams: int = 0
    drafts: Drafts = NO_DRAFTS
    caches: tuple[CacheTier, ...] = ()
    reuse: bool = True

    @property
    def name(self) -> str:
        """As it is shown."""
        return self.line.name if self.count == 1 else f"{self.count} times {self.line.name}"

    @property
    def is_rings(self) -> bool:
        """Whether it is served by rings; a desk machine is one of its own."""
        return bool(self.ring) or self.line.is_ring or self.line.device.is_desk

    @property
    def machines_in_words(self) -> str:
        """What it consists of."""
        line = self.line
        apart = f", {1e3 * line.way_s:.4g} ms apart" if line.way_s is not None else ""
        if self.ring:
            kinds = Counter(device.name for device in self.ring)
            what = ", ".join(f"{n * self.count:,} x {name}" for name, n in kinds.items())
        else:
            what = f"{line.n * self.count:,} x {line.device.name}"
        return what + apart


@dataclass(frozen=True, slots=True)
class Fleet:
    """Parts that serve together. `handover_rate` is that between parts that compute prompts and
    those that go on, bytes a second; 0: handing over takes no time.
    """

    name: str
    parts: tuple[Part, ...]
    handover_rate: float = 0.0


class _Drafts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    depth: int
    right: float
    guess: str = ""


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    fleet: str = ""
    ring: tuple[str, ...] = ()
    way: str = ""
    count: int = 1
    machines: int = 0
    role: Role = "all"
    software: Software = "served"
    leave: float = 0.0
    back: str = ""
    takeover: str = ""
    streams: int = 0
    drafts: _Drafts | None = None
    caches: tuple[str, ...] = ()
    reuse: bool = True


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    parts: tuple[_Part, ...]
    name: str = ""
    handover: str = ""


class _Shipped(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    fleets: tuple[_File, ...]


def parse_fleet(text: str, devices: ByName[Device]) -> Fleet:
    """The fleet that a line, or a short name, describes.

    Raises:
        BadRequest: A part is none, or names no device; the message has the nearest name.
    """
    lines = [line for line in text.split(" + ") if line.strip()] or [text]
    shipped = shipped_fleets()
    parts: list[Part] = []
    for line in lines:
        known = shipped.get(line.strip().lower())
        parts += known.parts if known else [Part(parse_fleet_line(line, devices))]
    return Fleet(text.strip(), tuple(parts))


def parse_fleet_file(text: str, devices: ByName[Device], *, source: str) -> Fleet:
    """The fleet that a TOML file describes.

    Raises:
        BadRequest: It is no TOML of this form, names no known device, or a figure is out of
            range.
    """
    try:
        found = msgspec.toml.decode(text, type=_File)
    except msgspec.MsgspecError as error:
        raise BadRequest(
            f"{source} cannot be read: {error}",
            hint="docs/howto/simulate-a-fleet.md shows its form",
        ) from error
    return _fleet(found, devices, source)


@cache
def shipped_fleets() -> dict[str, Fleet]:
    """The fleets that this package carries, by their short names."""
    text = resources.files("atoll.forecast").joinpath("data", "fleets.toml").read_text("utf-8")
    found = msgspec.toml.decode(text, type=_Shipped).fleets
    return {file.name: _fleet(file, shipped_devices(), file.name) for file in found}


def _fleet(found: _File, devices: ByName[Device], source: str) -> Fleet:
    if not 1 <= len(found.parts) <= PARTS_MAX:
        raise BadRequest(f"{source}: a fleet has 1 to {PARTS_MAX} parts")
    parts = tuple(
        _part(part, devices, f"{source}, part {number}")
        for number, part in enumerate(found.parts, 1)
    )
    roles = {part.role for part in parts}
    if len(roles - {"all"}) == 1:
        raise BadRequest(
            f"{source}: parts for prompts alone need others that decode, and the other way round",
            hint='give one part role = "prefill" and one role = "decode"',
        )
    rate = parse_quantity(found.handover, RATE, where=source) if found.handover else 0.0
    return Fleet(found.name or source, parts, rate)


def _part(part: _Part, devices: ByName[Device], where: str) -> Part:
    if bool(part.fleet) == bool(part.ring):
        raise BadRequest(
            f"{where}: it has either a `fleet` or a `ring`",
            hint='write fleet = "8 x H100 SXM", or ring = ["2 x RTX 4090", "1 x RTX 3090"]',
        )
    _check_range(where, "count", part.count, 1, COUNT_MAX)
    _check_range(where, "machines", part.machines, 0, COUNT_MAX)
    _check_range(where, "leave", part.leave, 0, 100)
    _check_range(where, "streams", part.streams, 0, STREAMS_MAX)
    line, ring = _machines(part, devices, where)
    if part.machines and (part.ring or not line.is_ring):
        raise BadRequest(
            f"{where}: `machines` are those of a ring",
            hint='write fleet = "60 x RTX 4090 @ 20 ms" with it',
        )
    if not part.ring and line.is_ring and part.count > 1:
        raise BadRequest(
            f"{where}: `count` is of servers, or of a `ring`",
            hint="give the number of all machines in the line; rings are made of them",
        )

    def seconds(text: str, usual: float) -> float:
        return parse_quantity(text, TIME, where=where) if text else usual

    drafts = NO_DRAFTS
    if part.drafts is not None:
        drafts = Drafts(part.drafts.depth, part.drafts.right, seconds(part.drafts.guess, 0.0))
    return Part(
        line=line,
        ring=ring,
        count=part.count,
        machines=part.machines,
        role=part.role,
        software=part.software,
        leave=part.leave,
        back_s=seconds(part.back, BACK_S),
        takeover_s=seconds(part.takeover, TAKEOVER_S),
        streams=part.streams,
        drafts=drafts,
        caches=tuple(_tier(text, devices, where) for text in part.caches),
        reuse=part.reuse,
    )


def _tier(text: str, devices: ByName[Device], where: str) -> CacheTier:
    size, at, rate = text.partition("@")
    if at:
        return CacheTier(
            parse_quantity(size, SIZE, where=where), parse_quantity(rate, RATE, where=where)
        )
    pools = parse_fleet_line(text, devices)
    pool = pools.device
    # What a pool gives is bound by its memory and by its link, whichever is published.
    known = [rate for rate in (pool.bandwidth, pool.link) if rate]
    if pool.kind != "memory-pool" or not pool.memory or not known:
        raise BadRequest(
            f"{where}: {text!r} is no tier of caches",
            hint="write it like '1 TB @ 50 GB/s', or name a memory pool of the catalogue",
        )
    return CacheTier(pools.n * pool.memory, pools.n * min(known), pool.name)


def _machines(
    part: _Part, devices: ByName[Device], where: str
) -> tuple[FleetLine, tuple[Device, ...]]:
    if part.fleet:
        if part.way:
            raise BadRequest(
                f"{where}: `way` goes with a `ring`", hint="write '@ 20 ms' in `fleet`"
            )
        return parse_fleet_line(part.fleet, devices), ()
    if not part.way:
        raise BadRequest(
            f"{where}: a ring needs the `way` between its machines", hint="way = '5 ms'"
        )
    kinds = [parse_fleet_line(line, devices) for line in part.ring]
    ring = tuple(kind.device for kind in kinds for _ in range(kind.n))
    name = f"a ring of {', '.join(kind.name for kind in kinds)} @ {part.way}"
    way_s = parse_way(part.way, shipped_wires(), where=where)
    return FleetLine(name, ring[0], len(ring), way_s), ring


def _check_range(where: str, what: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise BadRequest(f"{where}: {what} = {value} is out of range: {least} to {most:g}")
