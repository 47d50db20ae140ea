"""A memory host behind a real port, and borrowers that dial it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from atoll.domain.address import Address, HostPort
from atoll.domain.ids import NodeId
from atoll.domain.lent_memory import Borrower, Lent, MemoryHere, MemoryMessage
from atoll.net.identity import Identity
from atoll.net.link import Kind, MemoryLink
from atoll.net.listener import Takers
from atoll.net.transport import Transport, Way, open_transport
from atoll.node.blob_store import BlobStore
from atoll.node.memory_host import MemoryHost

LOOPBACK = "127.0.0.1"
LENT_BYTES = 4 << 20
SETTINGS_WAIT_S = 20.0


@dataclass
class Lender:
    """A node that lends memory, and what it tells its gateway."""

    transport: Transport
    address: Address
    host: MemoryHost
    said: list[Lent]
    links: list[MemoryLink] = field(default_factory=list)

    @property
    def key(self) -> NodeId:
        return self.transport.identity.node_id

    @property
    def here(self) -> MemoryHere:
        return MemoryHere(self.key, self.address, LENT_BYTES)

    def name(self, peer: Transport) -> None:
        self.host.note(Borrower(peer.identity.node_id, Address(HostPort(LOOPBACK, 1))))


@asynccontextmanager
async def open_lender_node(
    gateway: NodeId, *, way: Way = "tls", lent_bytes: int = LENT_BYTES
) -> AsyncIterator[Lender]:
    """A host that runs, and lets in the gateway and whom it is told of."""
    async with AsyncExitStack() as stack:
        opened = open_transport(Identity.generate(), way=way, host=LOOPBACK)
        transport = await stack.enter_async_context(opened)
        said: list[Lent] = []
        host = MemoryHost(BlobStore(lent_bytes), gateway, send=said.append)
        links: list[MemoryLink] = []

        def authorise(peer: NodeId, _kind: Kind) -> None:
            host.authorise(peer)

        def take(link: MemoryLink) -> None:
            links.append(link)
            host.on_memory(link)

        listened = transport.listen(LOOPBACK, 0, Takers(authorise, on_memory=take))
        listener = await stack.enter_async_context(listened)
        address = Address(tls=HostPort(LOOPBACK, listener.port))
        if transport.endpoint:
            address = Address(quic=(HostPort(LOOPBACK, transport.endpoint.port),))
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        running = tasks.create_task(host.run())
        try:
            yield Lender(transport, address, host, said, links)
        finally:
            running.cancel()
            host.close()


@dataclass
class Hand:
    """A borrower's link that the test drives by hand."""

    link: MemoryLink
    messages: asyncio.Queue[MemoryMessage] = field(default_factory=asyncio.Queue)
    ended: asyncio.Future[object] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def on_message(self, message: MemoryMessage) -> None:
        self.messages.put_nowait(message)

    def on_closed(self, reason: object) -> None:
        self.ended.set_result(reason)

    async def ask(self, message: MemoryMessage) -> MemoryMessage:
        assert self.link.send(message)
        return await self.messages.get()


async def dial_hand(borrower: Transport, lender: Lender) -> Hand:
    link = await borrower.dial_memory(lender.address, expected=lender.key)
    hand = Hand(link)
    link.start(hand)
    return hand
