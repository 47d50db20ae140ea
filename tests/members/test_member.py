"""Where a member can be dialled."""

from __future__ import annotations

import msgspec
from tests.gateway.test_ring_plan import member

from atoll.domain.address import ADDRESSES_MAX, Address, HostPort, check
from atoll.members.member import address_of, outside_of


def test_an_open_host_is_where_it_came_from() -> None:
    assert address_of(member(0)) == Address(tls=HostPort("10.0.0.7", 4000))
    assert address_of(member(1, host="reef")) == Address(tls=HostPort("reef", 4001))
    assert outside_of(member(0).link) == ""


def test_a_udp_port_is_dialled_where_it_is_seen_first() -> None:
    inside = HostPort("192.168.1.2", 4444)
    address = address_of(member(0, carrier="quic", quic=(inside, HostPort("10.0.0.7", 5555))))
    assert address.tls is None
    assert address.quic == (HostPort("10.0.0.7", 5555), inside)
    assert address.relay == "https://relay.example"


def test_no_more_places_are_named_than_may_be() -> None:
    found = member(0, carrier="quic")
    places = tuple(HostPort("10.0.0.9", port) for port in range(1, ADDRESSES_MAX))
    said = Address(tls=HostPort("reef", 9), quic=places)
    check(said)
    found.join = msgspec.structs.replace(found.join, address=said)
    check(address_of(found))
    assert address_of(found).tls == said.tls
