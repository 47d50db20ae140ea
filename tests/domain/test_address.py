"""Addresses as people write them, and as nodes send them."""

from __future__ import annotations

import msgspec
import pytest

from atoll.domain.address import (
    ADDRESSES_MAX,
    Address,
    BadAddress,
    HostPort,
    check,
    is_host,
)
from atoll.domain.errors import ProtocolFault


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:7000", "127.0.0.1", 7000),
        ("reef.example.org:1", "reef.example.org", 1),
        ("[::1]:65535", "::1", 65535),
        ("[fe80::1%eth0]:9", "fe80::1%eth0", 9),
    ],
)
def test_what_is_read_is_written_the_same(text: str, host: str, port: int) -> None:
    address = HostPort.parse(text)
    assert (address.host, address.port) == (host, port)
    assert str(address) == text


@pytest.mark.parametrize(
    ("text", "host"), [("reef", "reef"), ("10.0.0.1", "10.0.0.1"), ("[::1]", "::1")]
)
def test_a_port_may_be_given_beforehand(text: str, host: str) -> None:
    assert HostPort.parse(text, port_default=5) == HostPort(host, 5)
    assert HostPort.parse(f"{text}:6", port_default=5) == HostPort(host, 6)
    with pytest.raises(BadAddress):
        HostPort.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", ":", "host:", ":7000", "host:0", "host:65536", "host:x", "host:-1", "::1:7000"),
        *("[::1", "[::1]7000", "a b:1", "a/b:1", "http://a:1", "h\n:1", "h" * 254 + ":1", "é:1"),
        *("a..b:1", ".:1", "x" * 64 + ":1", "host:\uff17"),
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(BadAddress) as caught:
        HostPort.parse(text)
    assert "host:port" in caught.value.hint


def test_what_may_be_looked_up() -> None:
    assert all(is_host(text) for text in ("reef", "a.b-c.d", "10.0.0.1", "::1", "fe80::1%eth0"))
    wrong = ("", ".", "..", "a..b", "é", "x" * 64, "a." * 127 + "b", "a b", "a/b", "[::1]")
    assert not any(is_host(text) for text in wrong)


FULL = Address(
    tls=HostPort("node.example", 8643),
    quic=(HostPort("192.0.2.1", 7000), HostPort("2001:db8::1", 7000)),
    relay="https://relay.example/",
)


@pytest.mark.parametrize("address", [FULL, Address(), Address(tls=HostPort("10.0.0.1", 1))])
def test_good_addresses_travel(address: Address) -> None:
    check(address)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(address), type=Address) == address


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        (Address(tls=HostPort("a", 0)), "port 0"),
        (Address(tls=HostPort("a", 65536)), "port 65536"),
        (Address(tls=HostPort("", 1)), "no name or address"),
        (Address(tls=HostPort("x" * 254, 1)), "no name or address"),
        (Address(tls=HostPort("a\x1b[2J", 1)), "no name or address"),
        (Address(quic=(HostPort("a.name", 1),)), "is not an IP address"),
        (Address(quic=(HostPort("10.0.0.1", 1),) * (ADDRESSES_MAX + 1)), "17 addresses"),
        (Address(relay="file:///etc/passwd"), "must begin with"),
        (Address(relay="https://a\n"), "must begin with"),
        (Address(relay="https://" + "x" * 600), "must begin with"),
    ],
)
def test_what_can_be_no_address_is_refused(address: Address, problem: str) -> None:
    with pytest.raises(ProtocolFault, match=problem):
        check(address)


def test_an_open_host_stands_for_where_it_came_from() -> None:
    check(Address(tls=HostPort("", 7)), may_be_open=True)
    for wrong in (Address(tls=HostPort("a b", 7)), Address(quic=(HostPort("", 7),))):
        with pytest.raises(ProtocolFault):
            check(wrong, may_be_open=True)
