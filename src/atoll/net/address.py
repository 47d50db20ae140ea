"""Where a machine can be dialled: a host and a port, as people write them."""

from __future__ import annotations

import ipaddress
import re
import socket

import msgspec
import psutil

from atoll.domain.errors import LinkFault

_LABEL = "[0-9A-Za-z_-]{1,63}"
_HOST = rf"{_LABEL}(?:\.{_LABEL})*"
_IPV6 = r"(?=[^:]*:)[0-9A-Fa-f:.]{2,45}(?:%[0-9A-Za-z._-]{1,32})?"
_FORM = re.compile(rf"(?:\[(?P<ipv6>{_IPV6})\]|(?P<name>{_HOST}))(?::(?P<port>[0-9]{{1,5}}))?")
HOST_CHARS_MAX = 253


class BadAddress(LinkFault):
    """A text that is no address."""

    exit_code = 2


class Address(msgspec.Struct, frozen=True):
    """`host` is a name, an IPv4 address, or an IPv6 address without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str, *, port_default: int | None = None) -> Address:
        """The address written as `host:port` or `[IPv6]:port`; with a default, also without port.

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


def is_wildcard(host: str) -> bool:
    """Whether `host` stands for every address of this machine."""
    return host in {"", "0.0.0.0", "::"}  # noqa: S104 - compared, not bound


def own_addresses(host: str, port: int) -> tuple[Address, ...]:
    """Where others reach a port of this machine that is bound to `host`.

    Of a wildcard, the addresses of all interfaces that are up, without loopback
    and those that are good on one link only; IPv4 first.
    """
    if not is_wildcard(host):
        return (Address(host, port),)
    up = {name for name, stats in psutil.net_if_stats().items() if stats.isup}
    found = [
        ipaddress.ip_address(entry.address.partition("%")[0])
        for name, entries in psutil.net_if_addrs().items()
        if name in up
        for entry in entries
        if entry.family in {socket.AF_INET, socket.AF_INET6}
    ]
    usable = [a for a in found if not (a.is_loopback or a.is_link_local or a.is_unspecified)]
    usable.sort(key=lambda address: address.version)
    return tuple(Address(str(address), port) for address in usable)


def is_host(text: str) -> bool:
    """Whether `text` is a name or an address that may be looked up."""
    return len(text) <= HOST_CHARS_MAX and bool(
        re.fullmatch(_HOST, text) or re.fullmatch(_IPV6, text)
    )
