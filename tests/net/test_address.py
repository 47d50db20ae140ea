"""This machine's own addresses."""

from __future__ import annotations

import pytest

from atoll.domain.address import HostPort
from atoll.net.address import is_loopback, is_public, is_wildcard, own_addresses


def test_a_bound_address_is_where_others_reach_it() -> None:
    assert own_addresses("127.0.0.1", 7) == (HostPort("127.0.0.1", 7),)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::"])
def test_a_wildcard_stands_for_addresses_that_others_can_dial(host: str) -> None:
    assert is_wildcard(host)
    for address in own_addresses(host, 7):
        assert address.port == 7
        assert not address.host.startswith(("127.", "fe80:"))
        assert address.host not in {"::1", "0.0.0.0", "::"}


def test_loopback() -> None:
    assert all(is_loopback(host) for host in ("127.0.0.1", "localhost", "::1", "127.9.9.9"))
    assert not any(is_loopback(host) for host in ("", "10.0.0.1", "reef.example", "0.0.0.0"))


def test_public() -> None:
    assert all(is_public(host) for host in ("11.22.33.1", "2a00::1"))
    private = ("192.168.1.2", "10.0.0.1", "100.64.0.1", "127.0.0.1", "fd00::1", "fe80::1%eth0")
    assert not any(is_public(host) for host in (*private, "", "reef.example", "0.0.0.0"))
