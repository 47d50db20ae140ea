"""What the package `iroh` calls things, in this project's terms."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from atoll.domain.address import HostPort
from atoll.domain.errors import LinkFault
from atoll.domain.ids import NodeId
from atoll.net.link import (
    BULK,
    CONTROL,
    DATA,
    MEMORY,
    SAME_VERSION,
    TIMING,
    Kind,
    WrongPeer,
    peer_text,
)

if TYPE_CHECKING:
    import iroh

ALPNS: Final[dict[Kind, bytes]] = {
    CONTROL: b"atoll-control/1",
    DATA: b"atoll-data/1",
    BULK: b"atoll-bulk/1",
    TIMING: b"atoll-timing/1",
    MEMORY: b"atoll-memory/1",
}
"""What a connection is for, agreed in its handshake; the number is the links' version."""
PUNCH_ALPN: Final = b"atoll-punch/1"
"""Nobody takes such connections: they are to be sent, not to stand."""
PUNCH_S = 4.0
"""How long to send for: QUIC's first packet, and its repetitions after 1 s and 3 s."""
KINDS: dict[bytes, Kind] = {alpn: kind for kind, alpn in ALPNS.items()}


def said(error: Exception) -> str:
    """What an error of `iroh` says, in a line; its `str` is empty."""
    message = getattr(error, "message", lambda: str(error))()
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return peer_text(lines[-1], 300) if lines else type(error).__name__


def outside_address(connection: iroh.Connection) -> tuple[str, int] | None:
    """Where the other side is seen from here; None through a relay."""
    for path in connection.paths():
        if path.is_selected and path.is_ip:
            host, _, port = path.remote_addr.rpartition(":")
            return host.strip("[]"), int(port)
    return None


def bind_options(host: str, port: int) -> list[str]:
    """Addresses to bind for `host`:`port`.

    The library opens a port of the other family on all interfaces by itself;
    where one interface was asked for, that one goes to the loopback instead.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise LinkFault(f"{host!r} is not an IP address", hint="QUIC binds numbers only") from None
    asked = str(HostPort(host, port))
    if address.is_unspecified:
        return [asked]
    return [asked, "[::1]:0" if address.version == 4 else "127.0.0.1:0"]


def relay_mode(package: Any, relays: Sequence[str], token: str) -> iroh.RelayMode:
    """Use these relays alone, none by default, and show them `token` unless it is empty."""
    mode: iroh.RelayMode
    if relays:
        known = package.RelayMap.empty()
        for url in relays:
            known.insert(package.RelayConfig(url=url, auth_token=token or None))
        mode = package.RelayMode.custom(known)
    else:
        mode = package.RelayMode.disabled()
    return mode


def host_port(text: str) -> HostPort:
    """`text`, a host and port as the library writes them."""
    host, _, port = text.rpartition(":")
    return HostPort(host.strip("[]"), int(port))


def host_of(address: iroh.IncomingAddr) -> str:
    """Whom a connection in its handshake is counted under."""
    if address.is_ip():
        return host_port(str(getattr(address, "addr", ""))).host
    return str(address)


def peer_of(connection: iroh.Connection) -> NodeId:
    """Whose key the other side of a standing connection proved to hold."""
    return NodeId(connection.remote_id().to_bytes().hex())


def dial_fault(problem: str, where: str, expected: NodeId) -> LinkFault:
    """What a failed dial is called; `problem` is the library's own words."""
    if "invalid peer certificate" in problem:
        return WrongPeer(
            f"who answers at {where} does not hold key {expected[:12]}…",
            hint="if it was set up anew, get a new join file from its operator",
        )
    if "known protocol" in problem:
        return LinkFault(f"{where} takes no such link", hint=SAME_VERSION)
    if "refused" in problem:
        return LinkFault(f"{where} takes no links now", hint="try again in a moment")
    return LinkFault(f"cannot reach {where}: {problem}", hint="check address and network")
