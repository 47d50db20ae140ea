"""Lenders of shards on loopback, and strangers' links to them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from atoll.domain.address import Address, HostPort
from atoll.net.identity import Identity
from atoll.net.link import BulkLink
from atoll.net.listener import Takers
from atoll.net.transport import Transport, Way, open_transport
from atoll.transfer.borrower import Holder
from atoll.transfer.lender import Lender, OpenShard, open_lender

LOOPBACK = "127.0.0.1"


@dataclass
class Post:
    """A lender behind a port, and a stranger's transport to dial it with."""

    lender: Lender
    identity: Identity
    address: Address
    borrower: Transport

    async def dial(self) -> BulkLink:
        return await self.borrower.dial_bulk(self.address, expected=self.identity.node_id)

    def holder(self, name: str = "the gateway") -> Holder:
        return Holder(name, self.dial)


@asynccontextmanager
async def serve_bulk(
    on_bulk: Callable[[BulkLink], None], way: Way = "tls"
) -> AsyncIterator[tuple[Identity, Address, Transport]]:
    """Take bulk links from anybody."""
    identity = Identity.generate()
    async with (
        open_transport(identity, way=way, host=LOOPBACK) as transport,
        open_transport(Identity.generate(), way=way, host=LOOPBACK) as borrower,
        transport.listen(LOOPBACK, 0, Takers(lambda *_: None, on_bulk=on_bulk)) as listener,
    ):
        port = transport.endpoint.port if transport.endpoint else listener.port
        place = HostPort(LOOPBACK, port)
        address = Address(quic=(place,)) if way == "quic" else Address(tls=place)
        yield identity, address, borrower


@asynccontextmanager
async def open_post(open_shard: OpenShard, way: Way = "tls") -> AsyncIterator[Post]:
    async with (
        open_lender(open_shard) as lender,
        serve_bulk(lender.on_bulk, way) as (identity, address, borrower),
    ):
        yield Post(lender, identity, address, borrower)
