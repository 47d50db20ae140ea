from __future__ import annotations

import msgspec
import pytest

from atoll.domain.errors import ProtocolFault
from atoll.net.address import ADDRESSES_MAX, Address, HostPort, check

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
        (Address(tls=HostPort("", 1)), "host of an address"),
        (Address(tls=HostPort("x" * 256, 1)), "host of an address"),
        (Address(tls=HostPort("a\x1b[2J", 1)), "host of an address"),
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
