"""What a plan is made from: machines, links, a model's costs, and what is asked of them.

Plain data, so that it comes as well from a running fleet as from a file.
Seconds, bytes and bytes per second throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import msgspec

from atoll.domain.errors import BadRequest
from atoll.domain.measure import WindowTime, interpolated

MEMORY_SPARE = 0.2
"""Share of a node's free memory that a plan leaves alone."""

HOLD_S = 0.1
"""How long a chunk of a prompt may keep others waiting at a stage, unless told: a tenth of a
second is about what a reader does not notice (Nielsen, Usability Engineering, 1993)."""


class Machine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A node that may compute layers, as it was measured.

    `memory_bytes` are free for weights and caches. `layer_s` are the times of one
    layer of the model, at rising numbers of rows. `overhead_s` passes at each step
    outside the layers. Nodes with the same `host` share its cores.
    """

    name: str
    memory_bytes: int
    layer_s: tuple[WindowTime, ...]
    overhead_s: float = 0.0
    host: str = ""

    def one_layer_s(self, rows: int) -> float:
        """A layer's time for `rows` rows: between what was measured in a straight line.

        Beyond the largest window measured, in proportion to it.
        """
        return interpolated(self.layer_s, rows)


class Link(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a frame meets on the way from one node to another."""

    latency_s: float
    bytes_per_s: float

    def seconds(self, size_bytes: float) -> float:
        """One way, from the first byte's leaving to the last one's arrival."""
        return self.latency_s + size_bytes / self.bytes_per_s


class LinkEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A link by the names of its ends; it counts in both directions unless the other is given."""

    source: str
    target: str
    latency_s: float
    bytes_per_s: float = 125e6


class Gateway(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Both ends of the ring: `ends_s` for embedding, first and last layers, head and sampling."""

    ends_s: tuple[WindowTime, ...]
    name: str = "gateway"
    host: str = ""


class Fleet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that a plan may use.

    A pair of nodes without a link is taken to be near where both have the same `host`,
    else as far apart as the way over the gateway, or `default_link` where that is not
    known either.
    """

    gateway: Gateway
    machines: tuple[Machine, ...]
    links: tuple[LinkEntry, ...] = ()
    default_link: Link = Link(0.0, 125e6)


class ModelCosts(msgspec.Struct, frozen=True):
    """The model between the gateway's ends.

    `layer_bytes` are the weights and `kv_cell_bytes` the cache of one position of
    each layer; `boundaries` are the layers before which it may be cut, counted from
    the first one here. `row_bytes` is a row on the wire, `short_row_bytes` what it is as
    bytes where a ring may send it so if prompts would wait for a link else; 0: none may.
    """

    layer_bytes: tuple[int, ...]
    kv_cell_bytes: tuple[int, ...]
    boundaries: tuple[int, ...]
    row_bytes: int
    short_row_bytes: int = 0

    @property
    def n_layers(self) -> int:
        """Layers to be placed."""
        return len(self.layer_bytes)


class Demand(msgspec.Struct, frozen=True):
    """What the ring is to serve: `streams` at a time of up to `context` positions each.

    There is room for `slots` of them, or for as many as `streams` if that is more.
    `chunk_rows` is the size of a prompt's chunks, or the most where it is chosen
    (`chunk_auto`); `hold_s` bounds what one takes a node or link while others decode, 0: it
    is not bound. `prompt` is a prompt's length where a time to the first token is predicted.
    """

    streams: int = 1
    context: int = 2048
    chunk_rows: int = 512
    prompt: int = 512
    slots: int = 0
    chunk_auto: bool = False
    hold_s: float = HOLD_S

    @property
    def cells(self) -> int:
        """Positions that every layer's cache has to hold."""
        return max(self.streams, self.slots) * self.context


def check_fleet(fleet: Fleet) -> None:
    """Refuse what no fleet can be.

    Raises:
        BadRequest: A name twice or unknown, a time or size out of range.
    """
    names = [machine.name for machine in fleet.machines]
    twice = sorted({name for name in [*names, fleet.gateway.name] if names.count(name) > 1})
    if fleet.gateway.name in names:
        twice.append(fleet.gateway.name)
    if twice:
        raise BadRequest(f"the name {twice[0]!r} stands for two nodes", hint="rename one of them")
    for machine in fleet.machines:
        _check_times(machine.name, machine.layer_s)
        if not 0 <= machine.memory_bytes < 1 << 60 or not _is_time(machine.overhead_s):
            raise BadRequest(f"{machine.name}: a memory or overhead out of range")
    _check_times(fleet.gateway.name, fleet.gateway.ends_s)
    known = {*names, fleet.gateway.name}
    for link in fleet.links:
        for end in (link.source, link.target):
            if end not in known:
                raise BadRequest(f"a link names {end!r}, and no node has that name")
        if not (_is_time(link.latency_s) and 0 < link.bytes_per_s < float("inf")):
            raise BadRequest(f"the link {link.source} to {link.target} is out of range")


def _check_times(name: str, times: Sequence[WindowTime]) -> None:
    rows = [time.rows for time in times]
    if not rows or rows[0] < 1 or any(b <= a for a, b in pairwise(rows)):
        raise BadRequest(
            f"{name}: its times are not of rising numbers of rows", hint="measure it again"
        )
    if not all(_is_time(time.seconds) and time.seconds > 0 for time in times):
        raise BadRequest(f"{name}: a time is out of range", hint="measure it again")


def _is_time(seconds: float) -> bool:
    return 0 <= seconds < float("inf")
