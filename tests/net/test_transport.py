from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from atoll.domain.address import Address, HostPort
from atoll.domain.errors import LinkFault
from atoll.domain.ids import NodeId
from atoll.net import iroh_patch
from atoll.net.identity import Identity
from atoll.net.iroh_stream import IrohStream
from atoll.net.link import Kind, LinkSettings, NotWelcome, WrongPeer
from atoll.net.listener import Takers
from atoll.net.transport import Transport, Way, open_transport

pytest.importorskip("iroh", reason="no wheel for this system")
pytestmark = pytest.mark.network
LOOPBACK = "127.0.0.1"


class Server:
    """A node that takes links over both, and where it is."""

    def __init__(self, transport: Transport, port: int, taken: asyncio.Queue[Any]) -> None:
        self.key = transport.identity.node_id
        self.taken = taken
        quic = transport.endpoint
        self.tls = HostPort(LOOPBACK, port)
        self.quic = (HostPort(LOOPBACK, quic.port),) if quic else ()
        self.address = Address(tls=self.tls, quic=self.quic)


@contextlib.asynccontextmanager
async def serving(authorise: Any = lambda _peer, _kind: None) -> AsyncIterator[Server]:
    taken: asyncio.Queue[Any] = asyncio.Queue()
    async with (
        open_transport(Identity.generate(), host=LOOPBACK) as transport,
        transport.listen(
            LOOPBACK,
            0,
            Takers(authorise, on_control=taken.put_nowait, on_data=taken.put_nowait),
        ) as listener,
    ):
        yield Server(transport, listener.port, taken)


@contextlib.asynccontextmanager
async def dialing(way: Way = "auto") -> AsyncIterator[Transport]:
    async with open_transport(Identity.generate(), way=way, host=LOOPBACK) as transport:
        yield transport


async def close(*links: Any) -> None:
    for link in links:
        link.close()
        await link.wait_closed()


def is_quic(link: Any) -> bool:
    return isinstance(link._transport, IrohStream)


@pytest.mark.parametrize(("way", "quic"), [("auto", False), ("tls", False), ("quic", True)])
async def test_tls_is_taken_where_it_stands_and_either_can_be_forced(way: Way, quic: bool) -> None:
    async with asyncio.timeout(10), serving() as server, dialing(way) as transport:
        for dial in (transport.dial_data, transport.dial_control):
            near: Any = await dial(server.address, expected=server.key)
            assert is_quic(near) == quic
            assert near.peer == server.key
            await close(near, await server.taken.get())


async def test_quic_is_taken_where_tls_does_not_stand_and_remembered() -> None:
    with socket.socket() as sock:
        sock.bind((LOOPBACK, 0))
        closed = HostPort(LOOPBACK, sock.getsockname()[1])
    async with asyncio.timeout(10), serving() as server, dialing() as transport:
        address = Address(tls=closed, quic=server.quic)
        near = await transport.dial_data(address, expected=server.key)
        assert is_quic(near)
        await close(near, await server.taken.get())
        near = await transport.dial_data(server.address, expected=server.key)
        assert is_quic(near)
        await close(near, await server.taken.get())


async def test_who_turns_us_away_over_tls_is_not_asked_again() -> None:
    asked: list[NodeId] = []

    def no_entry(peer: NodeId, kind: Kind) -> None:
        asked.append(peer)
        raise LinkFault("not you")

    async with asyncio.timeout(10), serving(no_entry) as server, dialing() as transport:
        with pytest.raises(NotWelcome, match="not you"):
            await transport.dial_data(server.address, expected=server.key)
        assert len(asked) == 1


async def test_faults_of_the_only_way_are_told() -> None:
    async with asyncio.timeout(10), serving() as server, dialing("tls") as transport:
        assert transport.endpoint is None
        with pytest.raises(WrongPeer):
            await transport.dial_data(server.address, expected=Identity.generate().node_id)
        with pytest.raises(LinkFault, match="no address that can be dialed"):
            await transport.dial_data(Address(quic=server.quic), expected=server.key)
        with pytest.raises(LinkFault, match="no address that can be dialed"):
            await transport.dial_control(Address(), expected=server.key)


async def test_without_the_package_tls_is_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Any:
        raise LinkFault("links over QUIC need the package iroh")

    monkeypatch.setattr(iroh_patch, "load", missing)
    async with asyncio.timeout(10), serving() as server, dialing() as transport:
        assert transport.endpoint is None
        near = await transport.dial_data(server.address, expected=server.key)
        await close(near, await server.taken.get())
    with pytest.raises(LinkFault, match="need the package"):
        async with open_transport(Identity.generate(), way="quic", settings=LinkSettings()):
            pass
