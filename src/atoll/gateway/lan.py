"""The gateway on its own network: whether and how machines there can find it."""

from __future__ import annotations

import asyncio
import logging
import platform
from collections.abc import Callable
from pathlib import Path

from atoll import __version__
from atoll.domain.address import ADDRESSES_MAX, HostPort
from atoll.domain.control import Approved
from atoll.domain.errors import LinkFault
from atoll.domain.ids import NodeId
from atoll.gateway.options import ServeOptions
from atoll.members.knocks import KNOCKS_FILE, Knocks
from atoll.members.register import Register
from atoll.members.waiting_room import WaitingRoom
from atoll.net.address import is_loopback, is_wildcard, own_addresses
from atoll.net.discovery import Announcement, announced
from atoll.net.transport import Transport

log = logging.getLogger(__name__)


def is_announced(options: ServeOptions) -> bool:
    """Whether machines of the network are to find this gateway, and may knock."""
    lan = options.lan
    return lan.announce and (bool(lan.host) or not is_loopback(options.link_host))


def announcement(
    options: ServeOptions, key: NodeId, *, port: int, udp_port: int
) -> tuple[Announcement, str]:
    """What to tell, and the address of the interface to tell it on (empty: all)."""
    lan = options.lan
    places = (HostPort(lan.host, port),) if lan.host else own_addresses(options.link_host, port)
    # Found by IPv4; who is in hears of the other addresses.
    hosts = tuple(p.host for p in places if p.is_number and ":" not in p.host)
    host = lan.host or ("" if is_wildcard(options.link_host) else options.link_host)
    name = lan.name or platform.node()
    return Announcement(name, key, hosts, port, udp_port, __version__), host


class Lan:
    """Announces the gateway and opens its waiting room, if that is wanted.

    Args:
        options: The operator's choices.
        gateway: Our own key.
        register: Where nodes are enrolled.
        home: Where commands see who waits.
        tell: Takes one line at a time for the operator to read.
    """

    def __init__(
        self,
        options: ServeOptions,
        gateway: NodeId,
        register: Register,
        home: Path,
        *,
        tell: Callable[[str], None],
    ) -> None:
        self._options = options
        self._tell = tell
        self.room = WaitingRoom(gateway, register, Knocks(home / KNOCKS_FILE), tell=tell)

    async def run(self, transport: Transport, port: int) -> None:
        """Be found at TCP `port` until cancelled; where that fails the gateway goes on without."""
        options = self._options
        if not is_announced(options):
            self.room.close()
            return
        key, udp_port = transport.identity.node_id, transport.udp_port
        addresses = options.advertise or own_addresses(options.link_host, port)
        self.room.open(Approved(addresses[:ADDRESSES_MAX], udp_port, transport.relay))
        what, host = announcement(options, key, port=port, udp_port=udp_port)
        if not what.hosts:
            self._tell("there is no IPv4 address to announce; nodes need a ticket (atoll invite)")
            return
        try:
            async with announced(what, host=host):
                log.info("lan.announced name=%s hosts=%s", what.name, ",".join(what.hosts))
                await asyncio.Event().wait()
        except LinkFault as fault:
            self._tell(f"this gateway is not announced: {fault}")
