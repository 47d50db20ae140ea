"""What a node says of itself when it asks in."""

from __future__ import annotations

import psutil

from atoll import __version__
from atoll.domain.address import ADDRESSES_MAX, Address, HostPort
from atoll.domain.control import Join
from atoll.domain.wire import ENCODINGS
from atoll.engine.library import ENGINE_BUILD
from atoll.net.address import is_wildcard
from atoll.net.link import ControlLink
from atoll.net.listener import Listener
from atoll.net.transport import Transport
from atoll.node.options import NodeOptions


def introduction(options: NodeOptions, secret: str, address: Address, *, host: str) -> Join:
    """The first message to a gateway.

    Args:
        options: What the owner chose.
        secret: That of a ticket, or empty.
        address: Where others can reach this node.
        host: Names this machine.
    """
    computes = not options.lends_bytes
    return Join(
        secret=secret,
        name=options.name,
        address=address,
        host_id=host,
        engine_build=ENGINE_BUILD,
        memory_free_bytes=max(0, psutil.virtual_memory().available - options.keeping.ram_bytes),
        version=__version__,
        # A node that only lends memory does none of these.
        times_peers=computes,
        encodings=ENCODINGS if computes else (),
        keeps_bytes=options.keeping.total_bytes if computes else 0,
        borrows_memory=computes,
        lends_bytes=options.lends_bytes,
    )


def own_address(
    options: NodeOptions, listener: Listener, link: ControlLink, transport: Transport, relay: str
) -> Address:
    """Where others can reach this node, as far as this machine knows.

    Args:
        options: What its owner chose.
        listener: Its TCP port.
        link: That to the gateway.
        transport: Its UDP port, if it has one.
        relay: Where it can be met; empty for nowhere.
    """
    endpoint = transport.endpoint
    host = "" if is_wildcard(listener.host) else listener.host
    # Who came by UDP alone knows no address of its own that TCP could reach.
    by_tcp = bool(options.host or link.local_host)
    return Address(
        tls=HostPort(host, listener.port) if by_tcp else None,
        quic=endpoint.addresses[: ADDRESSES_MAX - 2] if endpoint else (),
        relay=relay if endpoint else "",
    )
