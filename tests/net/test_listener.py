from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from atoll.domain.errors import LinkFault, RingDown
from atoll.domain.ids import NodeId
from atoll.net.handshake import (
    Challenge,
    ClientHandshake,
    Hello,
    Verdict,
    encode_message,
)
from atoll.net.identity import Identity
from atoll.net.link import CONTROL, DATA, Kind, LinkSettings, NotWelcome
from atoll.net.listener import UNPROVEN_PER_HOST_MAX, Takers, listen
from atoll.net.tls import client_context, dial_control, dial_data, server_context

pytestmark = pytest.mark.network


async def raw_tls(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(
        "127.0.0.1", port, ssl=client_context(), server_hostname=""
    )


async def read_message(reader: asyncio.StreamReader, kind: type[Any]) -> Any:
    length = int.from_bytes(await reader.readexactly(4), "big")
    return msgspec.msgpack.decode(await reader.readexactly(length), type=kind)


async def answer_with(port: int, hello: bytes) -> Verdict:
    reader, writer = await raw_tls(port)
    await read_message(reader, Challenge)
    writer.write(hello)
    verdict = await read_message(reader, Verdict)
    assert await reader.read() == b""
    writer.close()
    return verdict  # type: ignore[no-any-return]


def no_entry(peer: NodeId, kind: Kind) -> None:
    raise LinkFault(f"no {kind} link for you", hint="ask the operator")


async def test_key_that_is_not_welcome_hears_why(open_station: Any) -> None:
    async with asyncio.timeout(10), open_station(authorise=no_entry) as station:
        with pytest.raises(NotWelcome, match="no data link for you") as caught:
            await dial_data(
                "127.0.0.1",
                station.port,
                expected=station.identity.node_id,
                identity=Identity.generate(),
            )
        assert caught.value.hint == "ask the operator"
        assert station.data.empty()


async def test_authorise_gets_the_proven_key_and_kind(open_station: Any) -> None:
    asked: list[tuple[NodeId, Kind]] = []
    client = Identity.generate()
    async with (
        asyncio.timeout(10),
        open_station(authorise=lambda *claim: asked.append(claim)) as station,
    ):
        link = await dial_control(
            "127.0.0.1", station.port, expected=station.identity.node_id, identity=client
        )
        far = await station.control.get()
        assert far.peer == client.node_id
        assert link.peer == station.identity.node_id
        assert asked == [(client.node_id, CONTROL)]
        for one in (link, far):
            one.close()
            await one.wait_closed()


async def test_kind_that_is_not_served(open_station: Any) -> None:
    identity = Identity.generate()
    async with (
        asyncio.timeout(10),
        listen(
            "127.0.0.1",
            0,
            identity=identity,
            takers=Takers(lambda *_: None, on_data=lambda _: None),
        ) as listener,
    ):
        with pytest.raises(NotWelcome, match="no control links are taken here"):
            await dial_control(
                "127.0.0.1",
                listener.port,
                expected=identity.node_id,
                identity=Identity.generate(),
            )


async def test_replayed_hello_is_refused(open_station: Any, serve_raw: Any) -> None:
    """A server the client trusts cannot use its answer elsewhere, nor anybody use it twice."""
    client, evil = Identity.generate(), Identity.generate()
    stolen: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async with asyncio.timeout(10), open_station() as station:

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            real_reader, real_writer = await raw_tls(station.port)
            writer.write(encode_message(await read_message(real_reader, Challenge)))
            hello = await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))
            hello = len(hello).to_bytes(4, "big") + hello
            real_writer.write(hello)
            verdict = await read_message(real_reader, Verdict)
            assert "signature" in verdict.problem
            writer.write(encode_message(verdict))
            real_writer.close()
            stolen.set_result(hello)

        async with serve_raw(relay, tls=server_context(evil)) as port:
            with pytest.raises(NotWelcome, match="signature"):
                await dial_data(
                    "127.0.0.1",
                    port,
                    expected=evil.node_id,
                    identity=client,
                )
            verdict = await answer_with(station.port, await stolen)
        assert not verdict.welcome
        assert "signature" in verdict.problem
        assert station.data.empty()


async def test_answer_to_an_earlier_challenge_is_refused(open_station: Any) -> None:
    async with asyncio.timeout(10), open_station() as station:
        reader, writer = await raw_tls(station.port)
        challenge = await read_message(reader, Challenge)
        handshake = ClientHandshake(station.identity.node_id, Identity.generate(), DATA, bytes(32))
        hello = handshake.feed(encode_message(challenge))
        writer.write(hello)
        assert (await read_message(reader, Verdict)).welcome
        (await station.data.get()).close()
        writer.close()
        assert not (await answer_with(station.port, hello)).welcome


async def test_forged_key_is_refused(open_station: Any) -> None:
    async with asyncio.timeout(10), open_station() as station:
        reader, writer = await raw_tls(station.port)
        challenge = await read_message(reader, Challenge)
        handshake = ClientHandshake(station.identity.node_id, Identity.generate(), DATA, bytes(32))
        sent = handshake.feed(encode_message(challenge))
        hello = msgspec.msgpack.decode(sent[4:], type=Hello)
        victim = bytes.fromhex(Identity.generate().node_id)
        writer.write(encode_message(msgspec.structs.replace(hello, key=victim)))
        verdict = await read_message(reader, Verdict)
        assert "signature" in verdict.problem
        assert await reader.read() == b""
        writer.close()
        assert station.data.empty()


@pytest.mark.parametrize("words", [b"\xff" * 64, b"\x00\x00\x00\x01\xc0", bytes(100_000)], ids=len)
async def test_garbage_inside_tls_is_refused(open_station: Any, words: bytes) -> None:
    async with asyncio.timeout(10), open_station() as station:
        verdict = await answer_with(station.port, words)
        assert not verdict.welcome
        await _wait_nobody_unproven(station)


@pytest.mark.parametrize(
    "words", [b"GET / HTTP/1.1\r\n\r\n", bytes(100_000), b"\x16\x03\x01"], ids=len
)
async def test_plain_garbage_is_closed_and_others_are_served(
    open_station: Any, words: bytes
) -> None:
    settings = LinkSettings(handshake_s=1.0)
    async with asyncio.timeout(10), open_station(settings=settings) as station:
        reader, writer = await asyncio.open_connection("127.0.0.1", station.port)
        writer.write(words)
        await _dial_and_close(station)
        await _read_to_the_end(reader)
        writer.close()
        await _wait_nobody_unproven(station)


@pytest.mark.parametrize("kind", ["tcp", "tls", "trickle"])
async def test_slow_handshakes_are_cut_off(open_station: Any, kind: str) -> None:
    settings = LinkSettings(handshake_s=0.5)
    async with asyncio.timeout(10), open_station(settings=settings) as station:
        reader, writer = await (
            asyncio.open_connection("127.0.0.1", station.port)
            if kind == "tcp"
            else raw_tls(station.port)
        )
        if kind == "trickle":
            await read_message(reader, Challenge)
            for _ in range(4):
                writer.write(b"\x00")
                await asyncio.sleep(0.1)
        await _read_to_the_end(reader)
        writer.close()
        await _wait_nobody_unproven(station)
        await _dial_and_close(station)


async def test_unproven_connections_of_one_host_are_bounded(open_station: Any) -> None:
    settings = LinkSettings(handshake_s=1.0)
    async with asyncio.timeout(20), open_station(settings=settings) as station:
        held = [
            await asyncio.open_connection("127.0.0.1", station.port)
            for _ in range(UNPROVEN_PER_HOST_MAX + 5)
        ]
        await asyncio.sleep(0.2)
        assert station.listener.unproven == UNPROVEN_PER_HOST_MAX
        await _wait_nobody_unproven(station)
        await _dial_and_close(station)
        for _, writer in held:
            writer.close()


async def test_leaving_stops_listening_and_keeps_links(open_station: Any) -> None:
    async with asyncio.timeout(10):
        async with open_station() as station:
            link = await dial_data(
                "127.0.0.1",
                station.port,
                expected=station.identity.node_id,
                identity=Identity.generate(),
            )
            far = await station.data.get()
            port = station.port
        with pytest.raises(LinkFault, match="nobody listens"):
            await dial_data(
                "127.0.0.1",
                port,
                expected=station.identity.node_id,
                identity=Identity.generate(),
            )
        assert not link.is_closed
        assert not far.is_closed
        for one in (link, far):
            one.close()
            await one.wait_closed()


async def test_callers_own_error_leaves_as_it_came(open_station: Any) -> None:
    with pytest.raises(RingDown, match="mine"):
        async with asyncio.timeout(10), open_station():
            raise RingDown("mine")


async def test_taken_port_is_told(open_station: Any) -> None:
    async with asyncio.timeout(10), open_station() as station:
        with pytest.raises(LinkFault, match="cannot listen") as caught:
            async with listen(
                "127.0.0.1",
                station.port,
                identity=Identity.generate(),
                takers=Takers(no_entry),
            ):
                pass
        assert caught.value.hint == "choose another port"


async def _dial_and_close(station: Any) -> None:
    link = await dial_data(
        "127.0.0.1",
        station.port,
        expected=station.identity.node_id,
        identity=Identity.generate(),
    )
    far = await station.data.get()
    for one in (link, far):
        one.close()
        await one.wait_closed()


async def _read_to_the_end(reader: asyncio.StreamReader) -> None:
    try:
        while await reader.read(65536):
            pass
    except ConnectionError:
        return


async def _wait_nobody_unproven(station: Any) -> None:
    async with asyncio.timeout(5):
        while station.listener.unproven:
            await asyncio.sleep(0.02)
