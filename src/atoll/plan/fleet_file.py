"""A fleet described by hand, as TOML: for machines that are not here, or not yet bought.

    [gateway]
    ends_ms = { 1 = 2.0, 64 = 9.0 }

    [[machines]]
    name = "reef"
    memory = "16GiB"
    layer_ms = { 1 = 0.4, 16 = 1.1, 256 = 12.0 }
    overhead_ms = 0.5

    [[links]]
    between = ["gateway", "reef"]
    latency_ms = 18.0
    mbit_s = 100.0

Tables of times are rows to milliseconds, one layer of the model in question.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from atoll.domain.errors import BadRequest
from atoll.domain.measure import WindowTime
from atoll.plan.fleet import Fleet, Gateway, Link, LinkEntry, Machine, check_fleet

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
UNITS |= {f"{unit}i": 1024 ** (i + 1) for i, unit in enumerate("KMGT")}
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?) ?([KMGT]i?|)B?")


class _Gateway(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    ends_ms: dict[int, float]
    name: str = "gateway"
    host: str = ""


class _Machine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    memory: str
    layer_ms: dict[int, float]
    overhead_ms: float = 0.0
    host: str = ""
    count: int = 1


class _Link(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    between: tuple[str, str]
    latency_ms: float
    mbit_s: float = 1000.0
    one_way: bool = False


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    gateway: _Gateway
    machines: tuple[_Machine, ...]
    links: tuple[_Link, ...] = ()
    latency_ms: float = 0.0
    mbit_s: float = 1000.0


COUNT_MAX = 10_000


def parse_fleet(text: str, *, source: str = "the fleet file") -> Fleet:
    """The fleet that `text` describes.

    A machine with a `count` stands for so many, named `name-1` on; a link to its
    name is one to each of them.

    Raises:
        BadRequest: It is no TOML, or no fleet; the message names the place.
    """
    try:
        found = msgspec.toml.decode(text, type=_File, strict=False)
    except msgspec.MsgspecError as error:
        raise BadRequest(
            f"{source} cannot be read: {error}", hint="docs/howto/plan-a-fleet.md shows its form"
        ) from error
    if sum(machine.count for machine in found.machines) > COUNT_MAX:
        raise BadRequest(f"{source} names more than {COUNT_MAX} machines")
    names: dict[str, list[str]] = {found.gateway.name: [found.gateway.name]}
    machines: list[Machine] = []
    for machine in found.machines:
        if machine.count < 1:
            raise BadRequest(f"{source}: {machine.count} machines called {machine.name!r}")
        each = (
            [machine.name]
            if machine.count == 1
            else [f"{machine.name}-{i + 1}" for i in range(machine.count)]
        )
        names[machine.name] = each
        machines += [_machine(machine, name) for name in each]
    fleet = Fleet(
        gateway=Gateway(_times(found.gateway.ends_ms), found.gateway.name, found.gateway.host),
        machines=tuple(machines),
        links=tuple(entry for link in found.links for entry in _links(link, names, source)),
        default_link=Link(found.latency_ms / 1e3, found.mbit_s * 1e6 / 8),
    )
    check_fleet(fleet)
    return fleet


def _machine(machine: _Machine, name: str) -> Machine:
    return Machine(
        name=name,
        memory_bytes=_bytes(machine.memory),
        layer_s=_times(machine.layer_ms),
        overhead_s=machine.overhead_ms / 1e3,
        host=machine.host,
    )


def _times(times_ms: Mapping[int, float]) -> tuple[WindowTime, ...]:
    return tuple(WindowTime(rows, times_ms[rows] / 1e3) for rows in sorted(times_ms))


def _links(link: _Link, names: Mapping[str, list[str]], source: str) -> list[LinkEntry]:
    for name in link.between:
        if name not in names:
            raise BadRequest(f"{source}: a link names {name!r}, and no machine has that name")
    ends = [(a, b) for a in names[link.between[0]] for b in names[link.between[1]] if a != b]
    if not link.one_way:
        ends += [(b, a) for a, b in ends]
    rate = link.mbit_s * 1e6 / 8
    return [LinkEntry(a, b, link.latency_ms / 1e3, rate) for a, b in ends]


def _bytes(text: str) -> int:
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise BadRequest(f"{text!r} is no size of a memory", hint="write it like 16GiB")
    return int(float(match[1]) * UNITS[match[2]])
