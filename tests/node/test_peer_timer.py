"""Nodes that time the way to each other when they are asked to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import pytest

from atoll.domain.address import Address, HostPort
from atoll.domain.errors import LinkFault
from atoll.domain.ids import NodeId
from atoll.domain.timing import PeerNotTimed, PeerTimed, TimePeer, answer_problem
from atoll.net.identity import Identity
from atoll.net.link import Kind, NotWelcome, TimingLink
from atoll.net.listener import Takers
from atoll.net.transport import Transport, Way, open_transport
from atoll.node import peer_timer as module
from atoll.node.peer_timer import ORDERS_MAX, PeerTimer

pytestmark = pytest.mark.network
LOOPBACK = "127.0.0.1"
STRANGER = NodeId("1" * 64)


@dataclass
class Node:
    """A timer behind a port, and what it tells its gateway."""

    transport: Transport
    address: Address
    timer: PeerTimer
    said: asyncio.Queue[PeerTimed | PeerNotTimed] = field(default_factory=asyncio.Queue)

    @property
    def key(self) -> NodeId:
        return self.transport.identity.node_id


@asynccontextmanager
async def open_node(way: Way = "tls") -> AsyncIterator[Node]:
    async with AsyncExitStack() as stack:
        opened = open_transport(Identity.generate(), way=way, host=LOOPBACK)
        transport = await stack.enter_async_context(opened)
        said: asyncio.Queue[PeerTimed | PeerNotTimed] = asyncio.Queue()
        timer = PeerTimer(transport, send=said.put_nowait)

        def authorise(peer: NodeId, _kind: Kind) -> None:
            timer.authorise(peer)

        listened = transport.listen(LOOPBACK, 0, Takers(authorise, on_timing=timer.on_timing))
        listener = await stack.enter_async_context(listened)
        address = Address(tls=HostPort(LOOPBACK, listener.port))
        if transport.endpoint:
            address = Address(quic=(HostPort(LOOPBACK, transport.endpoint.port),))
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        running = tasks.create_task(timer.run())
        try:
            yield Node(transport, address, timer, said)
        finally:
            running.cancel()


@pytest.mark.parametrize("way", ["tls", "quic"])
async def test_both_tell_what_they_saw(way: Way) -> None:
    if way == "quic":
        pytest.importorskip("iroh", reason="no wheel for this system")
    async with asyncio.timeout(30), open_node(way) as one, open_node(way) as other:
        other.timer.ask(TimePeer(one.key, one.address, False))
        one.timer.ask(TimePeer(other.key, other.address, True))
        for node, peer in ((one, other), (other, one)):
            told = await node.said.get()
            assert isinstance(told, PeerTimed)
            assert told.peer == peer.key
            assert answer_problem(told) == ""


async def test_the_gateways_word_may_come_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EARLY_S", 0.01)
    monkeypatch.setattr(module, "EARLY_TRIES", 1000)
    async with asyncio.timeout(30), open_node() as one, open_node() as other:
        refused = asyncio.Event()
        allowed = other.timer.authorise

        def noting(peer: NodeId) -> None:
            try:
                allowed(peer)
            except LinkFault:
                refused.set()
                raise

        monkeypatch.setattr(other.timer, "authorise", noting)
        one.timer.ask(TimePeer(other.key, other.address, True))
        await refused.wait()
        other.timer.ask(TimePeer(one.key, one.address, False))
        assert isinstance(await one.said.get(), PeerTimed)


async def test_nobody_is_let_in_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EARLY_TRIES", 0)
    async with asyncio.timeout(30), open_node() as one, open_node() as other:
        with pytest.raises(NotWelcome, match="did not name you"):
            await one.transport.dial_timing(other.address, expected=other.key)
        # Who was named is let in once, and not for ever.
        other.timer.ask(TimePeer(one.key, one.address, False))
        link = await one.transport.dial_timing(other.address, expected=other.key)
        with pytest.raises(NotWelcome, match="did not name you"):
            await one.transport.dial_timing(other.address, expected=other.key)
        link.close()
        await link.wait_closed()
        monkeypatch.setattr(module, "EXPECT_S", -1.0)
        other.timer.ask(TimePeer(one.key, one.address, False))
        one.timer.ask(TimePeer(other.key, other.address, True))
        told = await one.said.get()
        assert isinstance(told, PeerNotTimed)
        assert "did not name you" in told.problem
        assert other.said.empty()


async def test_a_peer_that_cannot_be_reached() -> None:
    async with asyncio.timeout(30), open_node() as one:
        one.timer.ask(TimePeer(STRANGER, Address(HostPort(LOOPBACK, 1)), True))
        assert await one.said.get() == PeerNotTimed(STRANGER, f"nobody listens at {LOOPBACK}:1")
        one.timer.ask(TimePeer(STRANGER, Address(relay="http://relay.example"), True))
        told = await one.said.get()
        assert isinstance(told, PeerNotTimed)
        assert "no address that can be dialed" in told.problem


async def test_a_peer_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIMIT_S", 0.2)

    class Silent:
        def on_message(self, _message: object) -> None:
            pass

        def on_closed(self, _reason: LinkFault | None) -> None:
            pass

    async with asyncio.timeout(30), open_node() as one, open_node() as other:
        takers = Takers(lambda *_: None, on_timing=lambda link: link.start(Silent()))
        async with other.transport.listen(LOOPBACK, 0, takers) as listener:
            address = Address(HostPort(LOOPBACK, listener.port))
            one.timer.ask(TimePeer(other.key, address, True))
            assert await one.said.get() == PeerNotTimed(other.key, "it takes longer than 0.2 s")
        # Who dials and then says nothing keeps nobody from dialling.
        other.timer.ask(TimePeer(one.key, one.address, False))
        link = await one.transport.dial_timing(other.address, expected=other.key)
        link.start(Silent())
        other.timer.ask(TimePeer(STRANGER, Address(HostPort(LOOPBACK, 1)), True))
        assert isinstance(await other.said.get(), PeerNotTimed)
        # And is sent away.
        assert await link.wait_closed() is not None


async def test_more_than_can_be_done_is_refused() -> None:
    async with open_transport(Identity.generate(), way="tls") as transport:
        said: list[PeerTimed | PeerNotTimed] = []
        timer = PeerTimer(transport, send=said.append)
        for _ in range(ORDERS_MAX + 1):
            timer.ask(TimePeer(STRANGER, Address(HostPort(LOOPBACK, 1)), True))
        assert said == [PeerNotTimed(STRANGER, "too many ways are to be timed from here")]


async def test_a_hidden_node_opens_its_router() -> None:
    punched: asyncio.Queue[tuple[Address, NodeId]] = asyncio.Queue()

    class Endpoint:
        async def punch(self, address: Address, *, expected: NodeId) -> None:
            punched.put_nowait((address, expected))

    @dataclass
    class Hidden:
        endpoint: Endpoint = field(default_factory=Endpoint)

        async def dial_timing(self, address: Address, *, expected: NodeId) -> TimingLink:
            raise LinkFault(f"{expected} at {address}")

    timer = PeerTimer(Hidden(), send=lambda _answer: None)
    there = Address(quic=(HostPort("192.0.2.1", 5),))
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(timer.run())
        # Others need not, and there is nothing to send to without a UDP port.
        timer.ask(TimePeer(STRANGER, there, False))
        timer.is_hidden = True
        timer.ask(TimePeer(STRANGER, Address(HostPort("192.0.2.1", 5)), False))
        timer.ask(TimePeer(NodeId("2" * 64), there, False))
        assert await punched.get() == (there, "2" * 64)
        assert punched.empty()
        running.cancel()
