"""Where a machine can be dialled, over each kind of link."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

import msgspec

from atoll.domain.errors import LinkFault, ProtocolFault

ADDRESSES_MAX = 16
HOST_CHARS_MAX = 253
_RELAY_CHARS_MAX = 512
_LABEL = "[0-9A-Za-z_-]{1,63}"
_HOST = rf"{_LABEL}(?:\.{_LABEL})*"
_IPV6 = r"(?=[^:]*:)[0-9A-Fa-f:.]{2,45}(?:%[0-9A-Za-z._-]{1,32})?"
_FORM = re.compile(rf"(?:\[(?P<ipv6>{_IPV6})\]|(?P<name>{_HOST}))(?::(?P<port>[0-9]{{1,5}}))?")


class BadAddress(LinkFault):
    """A text that is no address."""

    exit_code = 2


class HostPort(msgspec.Struct, frozen=True, array_like=True):
    """A port of a host: a name, an IPv4 address, or an IPv6 address without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str, *, port_default: int | None = None) -> HostPort:
        """The place written as `host:port` or `[IPv6]:port`; with a default, also without port.

        Raises:
            BadAddress: It is none.
        """
        found = _FORM.fullmatch(text)
        if found is not None and len(text) <= HOST_CHARS_MAX + 8:
            port = int(found["port"]) if found["port"] else port_default
            if port is not None and 1 <= port <= 65535:
                return cls(found["ipv6"] or found["name"], port)
        raise BadAddress(
            f"{text[:80]!r} is no address", hint="write it as host:port or [IPv6 address]:port"
        )

    @property
    def is_number(self) -> bool:
        """Whether the host is an IP address, which needs no look-up."""
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return True


class Address(msgspec.Struct, frozen=True, omit_defaults=True):
    """All ways to one node; who it is says its key, not its address.

    `tls` is where its TCP port can be reached, `quic` where its UDP port can
    (numbers, not names), `relay` the address of the relay it can be met at.
    """

    tls: HostPort | None = None
    quic: tuple[HostPort, ...] = ()
    relay: str = ""


def ways_to(places: Sequence[HostPort], udp_port: int, relay: str) -> tuple[Address, ...]:
    """The ways to a machine that is known by several TCP ports, in the order to try them.

    Args:
        places: Its TCP ports.
        udp_port: Its UDP port at the same hosts; 0 for none.
        relay: The relay it can be met at; empty for none.
    """
    quic = tuple(HostPort(p.host, udp_port) for p in places if udp_port and p.is_number)
    ways = tuple(Address(place, quic, relay) for place in places)
    return ways or ((Address(relay=relay),) if relay else ())


def is_host(text: str) -> bool:
    """Whether `text` is a name or an address that may be looked up."""
    return len(text) <= HOST_CHARS_MAX and bool(
        re.fullmatch(_HOST, text) or re.fullmatch(_IPV6, text)
    )


def check(address: Address, *, may_be_open: bool = False) -> None:
    """Make sure that what a peer calls an address can be one.

    Args:
        address: What it says.
        may_be_open: Whether the host of `tls` may be empty, which stands for
            the address that it came from.

    Raises:
        ProtocolFault: A port is out of range, a host could not be looked up, there
            are too many, a QUIC address is no number, or the relay's no `http` address.
    """
    places = (*address.quic, *((address.tls,) if address.tls else ()))
    if len(places) > ADDRESSES_MAX:
        raise ProtocolFault(f"{len(places)} addresses of one node, allowed are {ADDRESSES_MAX}")
    open_place = HostPort("", address.tls.port) if address.tls and may_be_open else None
    for place in places:
        if not 1 <= place.port <= 65535:
            raise ProtocolFault(f"port {place.port} is out of range")
        if place != open_place and not is_host(place.host):
            raise ProtocolFault("a host of its address is no name or address")
    for place in address.quic:
        if not place.is_number:
            raise ProtocolFault(f"{place.host[:64]!r} is not an IP address")
    check_relay(address.relay)


def check_relay(relay: str) -> None:
    """Make sure that a relay's address can be one; empty stands for none.

    Raises:
        ProtocolFault: It is too long, not printable, or of another scheme.
    """
    if relay and (
        len(relay) > _RELAY_CHARS_MAX
        or not relay.isprintable()
        or not relay.startswith(("https://", "http://"))
    ):
        raise ProtocolFault("the address of a relay must begin with https:// or http://")
