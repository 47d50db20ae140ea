"""What a node says of itself."""

from __future__ import annotations

from typing import Any

import pytest

from atoll.domain.address import Address, HostPort
from atoll.domain.wire import ENCODINGS
from atoll.net.identity import Identity
from atoll.net.listener import Takers
from atoll.net.tls import dial_control
from atoll.net.transport import open_transport
from atoll.node.introduction import introduction, own_address
from atoll.node.keeping import Keeping
from atoll.node.options import NodeOptions

pytestmark = pytest.mark.network
LOOPBACK = "127.0.0.1"


def test_an_introduction() -> None:
    address = Address(HostPort("reef.example", 5))
    said = introduction(NodeOptions("reef", "", 1, 1), "s", address, host="h")
    assert (said.name, said.secret, said.address) == ("reef", "s", address)
    assert said.host_id == "h"
    assert said.memory_free_bytes > 0
    assert said.times_peers
    assert said.encodings == ENCODINGS
    assert said.keeps_bytes == 0
    keeping = Keeping(ram_bytes=5, disk_bytes=7)
    options = NodeOptions("reef", "", 1, 1, keeping=keeping)
    assert introduction(options, "s", address, host="h").keeps_bytes == 12
    assert said.borrows_memory
    assert said.lends_bytes == 0


def test_an_introduction_of_a_node_that_only_lends_memory() -> None:
    options = NodeOptions("reef", "", 1, 1, lends_bytes=5, keeping=Keeping(7))
    said = introduction(options, "s", Address(), host="h")
    assert said.keeps_bytes == 0
    assert said.lends_bytes == 5
    assert (said.borrows_memory, said.times_peers, said.encodings) == (False, False, ())


@pytest.mark.parametrize(
    ("bound", "said"),
    [(LOOPBACK, LOOPBACK), ("0.0.0.0", "")],
)
async def test_an_address_is_left_open_where_all_interfaces_listen(bound: str, said: str) -> None:
    identity = Identity.generate()
    links: list[Any] = []
    async with open_transport(identity, way="tls") as transport:
        takers = Takers(lambda *_: None, on_control=links.append)
        async with transport.listen(bound, 0, takers) as listener:
            link = await dial_control(
                LOOPBACK, listener.port, expected=identity.node_id, identity=Identity.generate()
            )
            found = own_address(
                NodeOptions("reef", "", 1, 1), listener, link, transport, "http://relay.example"
            )
            # Without a UDP port nobody meets it at the relay.
            assert found == Address(HostPort(said, listener.port))
            for one in (link, *links):
                one.close()
                await one.wait_closed()
