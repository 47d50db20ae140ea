"""Who measures when: one node of a host at a time, and nobody for ever.

Pure: no clock or link. Nodes that measure at the same time on one machine spoil
each other's times, so each host has one lease. Who holds it too long loses it
to the next and counts as not measured, until its answer comes after all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from atoll.domain.ids import NodeId


@dataclass(frozen=True, slots=True)
class Came:
    """A node is in; `host` is equal for nodes of one machine."""

    node: NodeId
    host: str


@dataclass(frozen=True, slots=True)
class Done:
    """A node has answered, or is gone."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


@dataclass(frozen=True, slots=True)
class Ask:
    """The node is to measure now."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class Late:
    """The node has not answered in time; the next one measures."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Say `Tick` then."""

    at_s: float


Event = Came | Done | Tick
Effect = Ask | Late | WakeAt


@dataclass(slots=True)
class _Host:
    """One machine: who measures until when, and who comes after."""

    holder: NodeId | None = None
    until_s: float = 0.0
    waiting: deque[NodeId] = field(default_factory=deque)


class Leases:
    """The leases of all hosts; change them only through `handle`.

    Args:
        lease_s: How long one node may take.
    """

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self._hosts: dict[str, _Host] = {}

    @property
    def is_settled(self) -> bool:
        """Whether nobody measures or waits to."""
        return not self._hosts

    @property
    def busy_hosts(self) -> frozenset[str]:
        """Hosts where somebody measures or waits to."""
        return frozenset(self._hosts)

    def handle(self, event: Event, *, now_s: float) -> list[Effect]:
        """Take an event in; what is to be done about it, in order."""
        match event:
            case Came(node, name):
                host = self._hosts.setdefault(name, _Host())
                host.waiting.append(node)
            case Done(node):
                for host in self._hosts.values():
                    if node in host.waiting:
                        host.waiting.remove(node)
                    if host.holder == node:
                        host.holder = None
            case Tick():
                pass
        return list(self._go_on(now_s))

    def _go_on(self, now_s: float) -> Iterator[Effect]:
        """Take leases that ended, and hand them on."""
        for name, host in list(self._hosts.items()):
            if host.holder is not None and host.until_s <= now_s:
                yield Late(host.holder)
                host.holder = None
            if host.holder is None and host.waiting:
                host.holder = host.waiting.popleft()
                host.until_s = now_s + self._lease_s
                yield Ask(host.holder)
                yield WakeAt(host.until_s)
            if host.holder is None:
                del self._hosts[name]
