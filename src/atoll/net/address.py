"""Where a node can be reached, over each kind of link: what a plan would carry."""

from __future__ import annotations

import ipaddress

import msgspec

from atoll.domain.errors import ProtocolFault

ADDRESSES_MAX = 16
_HOST_CHARS_MAX = 255
_RELAY_CHARS_MAX = 512


class HostPort(msgspec.Struct, frozen=True, array_like=True):
    """A host, by name or number, and a port there."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Address(msgspec.Struct, frozen=True, omit_defaults=True):
    """All ways to one node; who it is says its key, not its address.

    `tls` is where its TCP port can be reached, `quic` where its UDP port can
    (numbers, not names), `relay` the address of the relay it can be met at.
    """

    tls: HostPort | None = None
    quic: tuple[HostPort, ...] = ()
    relay: str = ""


def check(address: Address) -> None:
    """Make sure that what a peer calls an address can be one.

    Raises:
        ProtocolFault: A port is out of range, a text too long, there are too
            many, a QUIC address is no number, or the relay's no `http` address.
    """
    places = (*address.quic, *((address.tls,) if address.tls else ()))
    if len(places) > ADDRESSES_MAX:
        raise ProtocolFault(f"{len(places)} addresses of one node, allowed are {ADDRESSES_MAX}")
    for place in places:
        if not 1 <= place.port <= 65535:
            raise ProtocolFault(f"port {place.port} is out of range")
        if not 1 <= len(place.host) <= _HOST_CHARS_MAX or not place.host.isprintable():
            raise ProtocolFault("a host of an address is empty, too long or not printable")
    for place in address.quic:
        try:
            ipaddress.ip_address(place.host)
        except ValueError:
            raise ProtocolFault(f"{place.host[:64]!r} is not an IP address") from None
    relay = address.relay
    if relay and (
        len(relay) > _RELAY_CHARS_MAX
        or not relay.isprintable()
        or not relay.startswith(("https://", "http://"))
    ):
        raise ProtocolFault("the address of a relay must begin with https:// or http://")
