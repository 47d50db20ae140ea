"""This machine's own addresses."""

from __future__ import annotations

import ipaddress
import socket

import psutil

from atoll.domain.address import HostPort


def is_wildcard(host: str) -> bool:
    """Whether `host` stands for every address of this machine."""
    return host in {"", "0.0.0.0", "::"}  # noqa: S104 - compared, not bound


def is_loopback(host: str) -> bool:
    """Whether `host` names this machine to itself alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_public(host: str) -> bool:
    """Whether `host` is an address of the internet: not of a home, a carrier's network, or a name.

    Source: the registries that Python's `ipaddress` follows (RFC 6890, RFC 6598).
    """
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_global
    except ValueError:
        return False


def own_addresses(host: str, port: int) -> tuple[HostPort, ...]:
    """Where others reach a port of this machine that is bound to `host`.

    Of a wildcard, the addresses of all interfaces that are up, without loopback
    and those that are good on one link only; IPv4 first.
    """
    if not is_wildcard(host):
        return (HostPort(host, port),)
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
    return tuple(HostPort(str(address), port) for address in usable)
