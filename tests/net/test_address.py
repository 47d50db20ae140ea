"""Addresses as people write them, and those of this machine."""

from __future__ import annotations

import pytest

from atoll.net.address import Address, BadAddress, is_host, is_wildcard, own_addresses


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
    address = Address.parse(text)
    assert (address.host, address.port) == (host, port)
    assert str(address) == text


@pytest.mark.parametrize(
    ("text", "host"), [("reef", "reef"), ("10.0.0.1", "10.0.0.1"), ("[::1]", "::1")]
)
def test_a_port_may_be_given_beforehand(text: str, host: str) -> None:
    assert Address.parse(text, port_default=5) == Address(host, 5)
    assert Address.parse(f"{text}:6", port_default=5) == Address(host, 6)
    with pytest.raises(BadAddress):
        Address.parse(text)


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
        Address.parse(text)
    assert "host:port" in caught.value.hint


def test_a_bound_address_is_where_others_reach_it() -> None:
    assert own_addresses("127.0.0.1", 7) == (Address("127.0.0.1", 7),)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::"])
def test_a_wildcard_stands_for_addresses_that_others_can_dial(host: str) -> None:
    assert is_wildcard(host)
    for address in own_addresses(host, 7):
        assert address.port == 7
        assert not address.host.startswith(("127.", "fe80:"))
        assert address.host not in {"::1", "0.0.0.0", "::"}


def test_what_may_be_looked_up() -> None:
    assert all(is_host(text) for text in ("reef", "a.b-c.d", "10.0.0.1", "::1", "fe80::1%eth0"))
    wrong = ("", ".", "..", "a..b", "é", "x" * 64, "a." * 127 + "b", "a b", "a/b", "[::1]")
    assert not any(is_host(text) for text in wrong)
