"""A node that only lends memory, before a gateway that the test drives by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from tests.support.hand_gateway import SECRET, Heard, at

from atoll import __version__
from atoll.domain.address import HostPort
from atoll.domain.control import (
    Beat,
    ControlMessage,
    Echo,
    EchoBack,
    Join,
    Leave,
    Lend,
    Refusal,
    Welcome,
)
from atoll.domain.errors import LinkFault, NotLetIn, ProtocolFault
from atoll.domain.ids import ModelId, NodeId
from atoll.domain.lent_memory import Borrower, BorrowerGone, Lent, MemoryHere
from atoll.net.identity import Identity
from atoll.net.link import ControlLink, NotWelcome
from atoll.net.listener import Takers
from atoll.net.tls import dial_bulk, dial_control, dial_data
from atoll.net.transport import Transport, open_transport
from atoll.node.membership import Membership
from atoll.node.memory_daemon import MemoryDaemon
from atoll.node.options import NodeOptions
from atoll.node.remote_keeper import RemoteKeeper

pytestmark = pytest.mark.network
LOOPBACK = "127.0.0.1"
LENT_BYTES = 4 << 20


@dataclass
class Gateway:
    """The test's end of everything."""

    transport: Transport
    node: NodeId
    control: ControlLink
    heard: Heard
    joined: Join
    said: list[str]
    running: asyncio.Task[None]
    welcomed: list[bool]

    @property
    def here(self) -> MemoryHere:
        return MemoryHere(self.node, self.joined.address, LENT_BYTES)

    async def end(self) -> BaseException | None:
        await asyncio.wait([self.running], timeout=6)
        assert self.running.done()
        return self.running.exception()


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    node = Identity.generate()
    controls: asyncio.Queue[ControlLink] = asyncio.Queue()
    said: list[str] = []
    welcomed: list[bool] = []
    async with (
        asyncio.timeout(30),
        open_transport(Identity.generate(), way="tls") as transport,
        transport.listen(
            LOOPBACK, 0, Takers(lambda *_: None, on_control=controls.put_nowait)
        ) as listener,
    ):
        place = HostPort(LOOPBACK, listener.port)
        options = NodeOptions("shelf", "", 1, 1, lends_bytes=LENT_BYTES)
        daemon = MemoryDaemon(
            node, options, tell=said.append, welcomed=lambda: welcomed.append(True)
        )
        membership = Membership(transport.identity.node_id, (place,), SECRET)
        running = asyncio.get_running_loop().create_task(daemon.run(membership), name="node")
        control, heard = await controls.get(), Heard()
        control.start(heard)
        joined = await heard.next_message(Join)
        try:
            yield Gateway(transport, node.node_id, control, heard, joined, said, running, welcomed)
        finally:
            running.cancel()
            await asyncio.wait([running], timeout=6)
            control.close()


async def test_it_says_that_it_only_lends(gateway: Gateway) -> None:
    joined = gateway.joined
    assert (joined.name, joined.secret, joined.version) == ("shelf", SECRET, __version__)
    assert joined.lends_bytes == LENT_BYTES
    assert (joined.times_peers, joined.borrows_memory, joined.encodings) == (False, False, ())
    gateway.control.send(Welcome("shelf"))
    lent = await gateway.heard.next_message(Lent)
    assert lent == Lent(0, 0)
    assert gateway.welcomed == [True]
    assert "joined as shelf; lending 0.00 GB of memory" in gateway.said[-1]
    gateway.control.send(Echo(7))
    assert await gateway.heard.next_message(EchoBack) == EchoBack(7)


async def test_it_keeps_blobs_of_whom_the_gateway_names(gateway: Gateway) -> None:
    gateway.control.send(Welcome("shelf"))
    own = RemoteKeeper()
    own.open(gateway.transport)
    own.note(gateway.here)
    assert await own.put("x", b"the gateway's")
    async with open_transport(Identity.generate(), way="tls") as friend:
        with pytest.raises(NotWelcome, match="did not name you"):
            await friend.dial_memory(gateway.joined.address, expected=gateway.node)
        gateway.control.send(Borrower(friend.identity.node_id, at(1)))
        keeper = RemoteKeeper()
        keeper.open(friend)
        keeper.note(gateway.here)
        assert await keeper.put("x", b"the friend's")
        assert await keeper.get("x") == b"the friend's"
        assert await own.get("x") == b"the gateway's"
        while (await gateway.heard.next_message(Lent)).blobs != 2:
            pass
        gateway.control.send(BorrowerGone(friend.identity.node_id))
        while await keeper.get("x") is not None:
            await asyncio.sleep(0.01)
        keeper.close()
    own.close()


async def test_it_takes_no_other_links(gateway: Gateway) -> None:
    gateway.control.send(Welcome("shelf"))
    place = gateway.joined.address.tls
    assert place
    for dial in (dial_control, dial_data, dial_bulk):
        with pytest.raises(NotWelcome, match="links are taken here"):
            await dial(
                *(place.host, place.port),
                expected=gateway.node,
                identity=gateway.transport.identity,
            )


@pytest.mark.parametrize(
    ("said", "kind", "problem"),
    [
        (Refusal("no", "why"), LinkFault, "refuses this node: no"),
        (Refusal("never", "", True), NotLetIn, "refuses this node: never"),
        (Lend(NodeId("a" * 64), ModelId("b" * 64), 1, 2), ProtocolFault, "sent a Lend"),
        (MemoryHere(NodeId("a" * 64), at(1), 1 << 30), ProtocolFault, "sent a MemoryHere"),
    ],
)
async def test_what_ends_it(
    gateway: Gateway, said: ControlMessage, kind: type[Exception], problem: str
) -> None:
    gateway.control.send(said)
    error = await gateway.end()
    assert type(error) is kind
    assert problem in str(error)


async def test_goodbyes(gateway: Gateway) -> None:
    gateway.control.send(Welcome("shelf"))
    gateway.control.send(Leave("enough"))
    assert await gateway.end() is None
    assert gateway.said[-1] == "the gateway said goodbye: enough"


async def test_it_says_goodbye_when_it_is_stopped(gateway: Gateway) -> None:
    gateway.control.send(Welcome("shelf"))
    await gateway.heard.next_message(Lent)
    gateway.running.cancel()
    assert await gateway.heard.next_message(Leave) == Leave("it was stopped")


async def test_a_gateway_that_is_gone_ends_it(gateway: Gateway) -> None:
    gateway.control.send(Beat(1))
    gateway.control.close()
    error = await gateway.end()
    assert isinstance(error, LinkFault)
    assert "the gateway is gone" in error.problem


async def test_a_thousand_borrowers_may_be_named_at_once(gateway: Gateway) -> None:
    gateway.control.send(Welcome("shelf"))
    for number in range(1000):
        gateway.control.send(Borrower(NodeId(f"{number:064x}"), at(1)))
    gateway.control.send(Echo(7))
    assert await gateway.heard.next_message(EchoBack) == EchoBack(7)
