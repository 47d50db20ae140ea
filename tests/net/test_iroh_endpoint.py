from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from atoll.domain.address import Address, HostPort
from atoll.domain.control import Leave, Refusal
from atoll.domain.errors import LinkFault, RingDown
from atoll.domain.ids import NodeId
from atoll.net import iroh_endpoint, iroh_patch
from atoll.net.handshake import Challenge, Verdict, encode_message
from atoll.net.identity import Identity
from atoll.net.iroh_endpoint import LINKS_PER_PEER_MAX, open_endpoint
from atoll.net.iroh_terms import ALPNS
from atoll.net.link import (
    CONTROL,
    DATA,
    ControlInbox,
    Kind,
    LinkSettings,
    NotWelcome,
    WrongPeer,
)
from atoll.net.listener import UNPROVEN_PER_HOST_MAX, Takers

pytest.importorskip("iroh", reason="no wheel for this system")
pytestmark = pytest.mark.network
QUICK = LinkSettings(handshake_s=0.5)


@asynccontextmanager
async def raw_endpoint(alpns: list[bytes]) -> AsyncIterator[Any]:
    """An endpoint of the package itself, for peers that behave badly."""
    iroh = iroh_patch.load()
    endpoint = await iroh.Endpoint.bind(
        iroh.EndpointOptions(
            preset=iroh.preset_minimal(),
            bind_addr="127.0.0.1:0",
            secret_key=os.urandom(32),
            alpns=alpns,
            relay_mode=iroh.RelayMode.disabled(),
        )
    )
    try:
        yield endpoint
    finally:
        await endpoint.close()


def at(station: Any) -> Any:
    """The station's address as the package wants it."""
    iroh = iroh_patch.load()
    key = iroh.EndpointId.from_bytes(bytes.fromhex(station.identity.node_id))
    return iroh.EndpointAddr(key, None, [f"127.0.0.1:{station.port}"])


def where(endpoint: Any) -> tuple[Address, NodeId]:
    port = int(endpoint.bound_sockets()[0].rpartition(":")[2])
    return Address(quic=(HostPort("127.0.0.1", port),)), NodeId(endpoint.id().to_bytes().hex())


def no_entry(peer: NodeId, kind: Kind) -> None:
    raise LinkFault(f"no {kind} link for you", hint="ask the operator")


async def use(station: Any) -> None:
    """Everybody else is still served."""
    near = await station.dial_data()
    far = await station.data.get()
    for link in (near, far):
        link.close()
        await link.wait_closed()


async def test_authorise_gets_the_proven_key_and_kind(open_quic_station: Any) -> None:
    asked: list[tuple[NodeId, Kind]] = []
    async with (
        asyncio.timeout(10),
        open_quic_station(authorise=lambda *claim: asked.append(claim)) as station,
    ):
        near = await station.dial_control()
        far = await station.control.get()
        assert asked == [(station.client.node_id, CONTROL)]
        assert far.peer == station.client.node_id
        assert near.peer == station.identity.node_id
        assert near.peer_host == far.peer_host == "127.0.0.1"
        assert HostPort("127.0.0.1", station.port) in station.endpoint.addresses
        near.close()
        assert await near.wait_closed() is None
        far.close()
        await far.wait_closed()


async def test_wrong_key_is_noticed(open_quic_station: Any) -> None:
    async with asyncio.timeout(10), open_quic_station() as station:
        with pytest.raises(WrongPeer, match="does not hold key"):
            await station.stranger.dial_data(station.address, expected=Identity.generate().node_id)
        assert station.data.empty()
        await use(station)


async def test_key_that_is_not_welcome_hears_why(open_quic_station: Any) -> None:
    async with asyncio.timeout(10), open_quic_station(authorise=no_entry) as station:
        with pytest.raises(NotWelcome, match="no data link for you") as caught:
            await station.dial_data()
        assert caught.value.hint == "ask the operator"
        assert station.data.empty()


async def test_kind_that_is_not_served() -> None:
    server, client = Identity.generate(), Identity.generate()
    async with (
        asyncio.timeout(10),
        open_endpoint(server, host="127.0.0.1") as endpoint,
        open_endpoint(client, host="127.0.0.1") as stranger,
    ):
        address = Address(quic=(HostPort("127.0.0.1", endpoint.port),))
        with pytest.raises(LinkFault, match="takes no links now"):
            await stranger.dial_control(address, expected=server.node_id)
        with endpoint.taking(Takers(lambda *_: None, on_data=lambda _: None)):
            with pytest.raises(NotWelcome, match="no control links are taken here"):
                await stranger.dial_control(address, expected=server.node_id)
            with (
                pytest.raises(RuntimeError, match="already"),
                endpoint.taking(Takers(lambda *_: None)),
            ):
                pass


async def test_nobody_there() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        address = Address(quic=(HostPort("127.0.0.1", sock.getsockname()[1]),))
        other = Identity.generate()
        async with (
            asyncio.timeout(10),
            open_endpoint(Identity.generate(), host="127.0.0.1") as near,
        ):
            began_s = time.monotonic()
            with pytest.raises(LinkFault, match=r"did not answer within 0\.5 s"):
                await near.dial_data(address, expected=other.node_id, settings=QUICK)
            assert 0.4 < time.monotonic() - began_s < 3
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await near.dial_data(address, expected=other.node_id)


@pytest.mark.parametrize(
    ("address", "key", "problem"),
    [
        (Address(), "", "cannot reach an unknown address"),
        (Address(quic=(HostPort("not a number", 1),)), "", "cannot reach not a number:1"),
        (Address(relay="::"), "", "cannot reach|did not answer"),
        (Address(quic=(HostPort("127.0.0.1", 9),)), "02" + "00" * 31, "nobody's key"),
        (Address(quic=(HostPort("127.0.0.1", 9),)), "xyz", "nobody's key"),
    ],
    ids=["none", "a name", "a bad relay", "no point", "no hex"],
)
async def test_addresses_that_are_none(address: Address, key: str, problem: str) -> None:
    expected = NodeId(key) if key else Identity.generate().node_id
    async with asyncio.timeout(10), open_endpoint(Identity.generate(), host="127.0.0.1") as near:
        with pytest.raises(LinkFault, match=problem):
            await near.dial_data(address, expected=expected, settings=QUICK)


@pytest.mark.parametrize(
    "words",
    [
        b"",
        b"\xff" * 8,
        b"\x00\x00\x00\x01\xc0",
        encode_message(Challenge(1, bytes(32))),
        encode_message(Verdict(True))[:-1],
    ],
    ids=["nothing", "too long", "no message", "a challenge", "half"],
)
async def test_server_that_breaks_the_exchange(words: bytes) -> None:
    async with (
        asyncio.timeout(10),
        raw_endpoint([ALPNS[DATA]]) as server,
        open_endpoint(Identity.generate(), host="127.0.0.1") as near,
    ):

        async def talk() -> None:
            connection = await (await (await server.accept_next()).accept()).connect()
            send = (await connection.open_bi()).send()
            await send.write_all(words or b"\x00")
            await send.finish()
            await connection.closed()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(talk(), name="talk")
            address, key = where(server)
            with pytest.raises(LinkFault, match=r"handshake|verdict"):
                await near.dial_data(address, expected=key)


async def test_server_of_another_kind_or_silent() -> None:
    async with (
        asyncio.timeout(10),
        raw_endpoint([b"something-else"]) as other,
        raw_endpoint([ALPNS[DATA]]) as silent,
        open_endpoint(Identity.generate(), host="127.0.0.1") as near,
    ):

        async def take(server: Any) -> None:
            try:
                connection = await (await (await server.accept_next()).accept()).connect()
                await connection.closed()
            except iroh_patch.load().IrohError:
                return

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(take(other), name="other")
            tasks.create_task(take(silent), name="silent")
            address, key = where(other)
            with pytest.raises(LinkFault, match="takes no such link"):
                await near.dial_data(address, expected=key)
            address, key = where(silent)
            with pytest.raises(LinkFault, match=r"did not answer within 0\.5 s"):
                await near.dial_data(address, expected=key, settings=QUICK)


@pytest.mark.parametrize("way", ["bi", "uni"])
async def test_thousand_streams_end_that_connection_alone(open_quic_station: Any, way: str) -> None:
    iroh_error = iroh_patch.load().IrohError
    async with asyncio.timeout(20), open_quic_station() as station, raw_endpoint([]) as evil:
        good = await station.dial_control()
        served = await station.control.get()
        connection = await evil.connect(at(station), ALPNS[DATA])
        pair = await connection.accept_bi()
        assert await pair.recv().read(100)
        link = await station.data.get()

        async def flood() -> None:
            for _ in range(1000):
                stream = await (connection.open_bi() if way == "bi" else connection.open_uni())
                send = stream.send() if way == "bi" else stream
                await send.write_all(b"x")

        with pytest.raises(iroh_error):
            await flood()
        assert "more streams" in str(await link.wait_closed())
        assert not served.is_closed
        assert good.send(Leave("still here"))
        await use(station)
        for one in (good, served):
            one.close()
            await one.wait_closed()


async def test_endless_warming_is_cut_off(open_quic_station: Any) -> None:
    async with asyncio.timeout(20), open_quic_station() as station, raw_endpoint([]) as evil:
        connection = await evil.connect(at(station), ALPNS[DATA])
        stream = await connection.open_uni()

        async def flood() -> None:
            for _ in range(100):
                await stream.write_all(bytes(256 * 1024))

        with pytest.raises(iroh_patch.load().IrohError):
            await flood()
        link = await station.data.get()
        assert "more to warm" in str(await link.wait_closed())
        await use(station)


async def test_connections_of_one_host_are_bounded(open_quic_station: Any) -> None:
    """They end their handshake in no time, so what counts is how many may stand."""
    iroh_error = iroh_patch.load().IrohError
    async with asyncio.timeout(20), open_quic_station() as station, raw_endpoint([]) as evil:
        kept: list[Any] = []

        async def dial() -> None:
            try:
                kept.append(await evil.connect(at(station), ALPNS[DATA]))
            except iroh_error:
                return

        async with asyncio.TaskGroup() as tasks:
            for _ in range(100):
                tasks.create_task(dial(), name="dial")
        taken = 0
        while station.endpoint.unproven:
            assert station.endpoint.unproven <= UNPROVEN_PER_HOST_MAX
            await asyncio.sleep(0.02)
        while not station.data.empty():
            station.data.get_nowait()
            taken += 1
        assert 1 <= taken <= LINKS_PER_PEER_MAX
        await use(station)


async def test_leaving_says_last_words_and_ends_the_links() -> None:
    server, client = Identity.generate(), Identity.generate()
    taken: asyncio.Queue[Any] = asyncio.Queue()
    async with asyncio.timeout(10), open_endpoint(client, host="127.0.0.1") as stranger:
        async with open_endpoint(server, host="127.0.0.1") as endpoint:
            address = Address(quic=(HostPort("127.0.0.1", endpoint.port),))
            with endpoint.taking(Takers(lambda *_: None, on_control=taken.put_nowait)):
                near = await stranger.dial_control(address, expected=server.node_id)
                far = await taken.get()
            heard = aiter(ControlInbox(near))
            ControlInbox(far)
            far.close(LinkFault("closing time", hint="come back tomorrow"))
        assert far.is_closed
        assert await anext(heard) == Refusal("closing time", "come back tomorrow")
        with pytest.raises(LinkFault, match="other side closed"):
            await anext(heard)
        await near.wait_closed()


async def test_callers_own_error_leaves_as_it_came() -> None:
    with pytest.raises(RingDown, match="mine"):
        async with asyncio.timeout(10), open_endpoint(Identity.generate(), host="127.0.0.1"):
            raise RingDown("mine")


async def test_port_that_cannot_be_had() -> None:
    async with asyncio.timeout(10), open_endpoint(Identity.generate(), host="127.0.0.1") as first:
        with pytest.raises(LinkFault, match="cannot open UDP") as caught:
            async with open_endpoint(Identity.generate(), host="127.0.0.1", port=first.port):
                pass
        assert caught.value.hint == "choose another port"
        with pytest.raises(LinkFault, match=r"cannot open UDP|relay"):
            async with open_endpoint(Identity.generate(), host="127.0.0.1", relays=["no url"]):
                pass


async def test_outside_address_is_told_to_peers() -> None:
    async with asyncio.timeout(10), open_endpoint(Identity.generate(), host="127.0.0.1") as one:
        await one.add_outside_address(HostPort("192.0.2.7", 4433))
        async with asyncio.timeout(3):
            while HostPort("192.0.2.7", 4433) not in one.addresses:
                await asyncio.sleep(0.02)


async def test_a_punch_reaches_the_other_side_and_nothing_comes_of_it(
    open_quic_station: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(iroh_endpoint, "PUNCH_S", 0.5)
    caplog.set_level("INFO")
    async with asyncio.timeout(10), open_quic_station() as station:
        await station.stranger.punch(station.address, expected=station.identity.node_id)
        while "iroh.handshake_failed" not in caplog.text:
            await asyncio.sleep(0.01)
        assert station.data.empty()
        assert station.control.empty()
        # Nobody there, another key, no key at all: nobody is to know.
        nowhere = Address(quic=(HostPort("127.0.0.1", 1),))
        await station.stranger.punch(nowhere, expected=station.identity.node_id)
        await station.stranger.punch(station.address, expected=Identity.generate().node_id)
        await station.stranger.punch(station.address, expected=NodeId("no key"))
        link = await station.dial_data()
        (await station.data.get()).close()
        link.close()
        await link.wait_closed()
