from __future__ import annotations

import asyncio
import socket
import ssl
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from atoll.domain.errors import LinkFault
from atoll.net.identity import Identity
from atoll.net.link import LinkSettings, WrongPeer
from atoll.net.tls import client_context, dial_control, dial_data, server_context

pytestmark = pytest.mark.network
QUICK = LinkSettings(handshake_s=0.5)


def open_descriptors() -> int:
    return sum(1 for _ in Path("/dev/fd").iterdir())


async def dial(port: int, expected: Identity, settings: LinkSettings | None = None) -> Any:
    return await dial_data(
        "127.0.0.1",
        port,
        expected=expected.node_id,
        identity=Identity.generate(),
        settings=settings,
    )


async def test_wrong_key_is_noticed_and_nothing_is_sent_to_it(open_station: Any) -> None:
    async with asyncio.timeout(10), open_station() as station:
        with pytest.raises(WrongPeer, match="holds key"):
            await dial(station.port, Identity.generate())
        assert station.data.empty()


async def test_one_in_the_middle_gets_not_a_byte(serve_raw: Any) -> None:
    got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def intercept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x00\x00\x00\x01x")
        got.set_result(await reader.read())

    tls = server_context(Identity.generate())
    async with asyncio.timeout(10), serve_raw(intercept, tls=tls) as port:
        with pytest.raises(WrongPeer):
            await dial(port, Identity.generate())
        assert await got == b""


async def test_nobody_there() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    with pytest.raises(LinkFault, match=r"nobody listens at 127\.0\.0\.1"):
        await dial(port, Identity.generate())
    with pytest.raises(LinkFault, match=r"cannot reach no-such-host\.invalid"):
        await dial_control(
            "no-such-host.invalid",
            1,
            expected=Identity.generate().node_id,
            identity=Identity.generate(),
        )


async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


@pytest.mark.parametrize("kind", ["silent", "silent after tls"])
async def test_silent_server_is_given_up_and_its_socket_closed(serve_raw: Any, kind: str) -> None:
    identity = Identity.generate()
    tls = server_context(identity) if kind == "silent after tls" else None
    async with asyncio.timeout(10), serve_raw(say_nothing, tls=tls) as port:
        before = open_descriptors()
        began_s = time.monotonic()
        with pytest.raises(LinkFault, match=r"did not answer within 0\.5 s"):
            await dial(port, identity, QUICK)
        assert 0.4 < time.monotonic() - began_s < 3
        async with asyncio.timeout(3):
            while open_descriptors() > before:
                await asyncio.sleep(0.05)


async def test_cancelled_dial_leaves_no_socket(serve_raw: Any) -> None:
    async with asyncio.timeout(10), serve_raw(say_nothing) as port:
        before = open_descriptors()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await dial(port, Identity.generate())
        async with asyncio.timeout(3):
            while open_descriptors() > before:
                await asyncio.sleep(0.05)


@pytest.mark.parametrize("words", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00" * 50], ids=len)
async def test_server_that_speaks_no_tls(serve_raw: Any, words: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(words)
        await reader.read()

    async with asyncio.timeout(10), serve_raw(talk) as port:
        with pytest.raises(LinkFault, match=r"does not speak TLS|cannot reach"):
            await dial(port, Identity.generate())


@pytest.mark.parametrize("words", [b"\xff" * 8, b"\x00\x00\x00\x01\xc0", b""], ids=len)
async def test_server_that_breaks_the_exchange(serve_raw: Any, words: bytes) -> None:
    identity = Identity.generate()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(words)
        if words:
            await reader.read()

    async with asyncio.timeout(10), serve_raw(talk, tls=server_context(identity)) as port:
        with pytest.raises(LinkFault, match="handshake"):
            await dial(port, identity)


async def test_older_tls_is_refused(open_station: Any) -> None:
    old = client_context()
    old.minimum_version = ssl.TLSVersion.TLSv1_2
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    async with asyncio.timeout(10), open_station() as station:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", station.port, ssl=old, server_hostname="")


def test_no_key_stays_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    server_context(Identity.generate())
    assert list(tmp_path.iterdir()) == []
