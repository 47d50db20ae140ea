from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from bench.slow_net import LOOPBACK, Path, Way, slow_tcp, slow_udp, udp_socket

pytestmark = pytest.mark.network
DELAY_S = 0.05


class Echo(asyncio.DatagramProtocol):
    """Sends back what it gets."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(data, addr)


@asynccontextmanager
async def udp_echo() -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Echo, local_addr=(LOOPBACK, 0))
    try:
        yield transport.get_extra_info("sockname")[1]
    finally:
        transport.close()


@asynccontextmanager
async def tcp_echo() -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(serve, LOOPBACK, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def ask(sock: socket.socket, port: int, data: bytes, wait_s: float = 1.0) -> bytes | None:
    loop = asyncio.get_running_loop()
    await loop.sock_sendto(sock, data, (LOOPBACK, port))
    try:
        return await asyncio.wait_for(loop.sock_recv(sock, 65536), wait_s)
    except TimeoutError:
        return None


@pytest.mark.alone
async def test_datagrams_are_delayed_both_ways() -> None:
    async with (
        asyncio.timeout(10),
        udp_echo() as port,
        slow_udp(port, Path(delay_s=DELAY_S)) as slow,
    ):
        with udp_socket() as sock:
            began_s = time.monotonic()
            assert await ask(sock, slow, b"one") == b"one"
            assert 1.9 * DELAY_S < time.monotonic() - began_s < 2 * DELAY_S + 0.5


async def test_a_second_client_has_no_way_through() -> None:
    async with asyncio.timeout(10), udp_echo() as port, slow_udp(port, Path()) as slow:
        with udp_socket() as first, udp_socket() as second:
            assert await ask(first, slow, b"mine") == b"mine"
            assert await ask(second, slow, b"theirs", 0.1) is None
            assert await ask(first, slow, b"mine") == b"mine"


async def test_same_seed_loses_the_same_packets() -> None:
    async def run(seed: int) -> list[bytes]:
        got: list[bytes] = []
        way = Way(Path(loss=0.3), random.Random(seed), got.append)
        for number in range(200):
            way.put(bytes([number]))
        await asyncio.sleep(0.05)
        assert len(got) + way.lost == 200
        return got

    first = await run(1)
    assert first == await run(1)
    assert first != await run(2)
    assert 100 < len(first) < 180


@pytest.mark.alone
async def test_rate_spreads_packets_and_the_buffer_is_bounded() -> None:
    times: list[float] = []
    path = Path(bytes_per_s=100_000, buffer_bytes_max=20_000)
    way = Way(path, random.Random(0), lambda _data: times.append(time.monotonic()))
    began_s = time.monotonic()
    taken = sum(way.put(bytes(1000)) for _ in range(50))
    assert taken == 20
    while len(times) < taken:
        await asyncio.sleep(0.01)
    assert 0.18 < times[-1] - began_s < 1
    assert way.queued_bytes == 0
    way.put(bytes(10))
    way.close()


@pytest.mark.parametrize("loss", [0.0, 0.3])
async def test_tcp_arrives_whole_delayed_and_ends(loss: float) -> None:
    path = Path(delay_s=0.01, loss=loss, buffer_bytes_max=64 * 1024)
    content = random.Random(3).randbytes(2_000_000)
    async with asyncio.timeout(20), tcp_echo() as port, slow_tcp(port, path, seed=5) as slow:
        reader, writer = await asyncio.open_connection(LOOPBACK, slow)
        began_s = time.monotonic()
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        assert time.monotonic() - began_s > 0.019
        writer.write(content)
        writer.write_eof()
        assert await reader.read(-1) == content
        writer.close()


async def test_leaving_ends_connections_and_nobody_behind_is_an_end() -> None:
    async with asyncio.timeout(10):
        async with tcp_echo() as port, slow_tcp(port, Path(delay_s=DELAY_S)) as slow:
            reader, writer = await asyncio.open_connection(LOOPBACK, slow)
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
        await _end_of(reader)
        writer.close()
        async with slow_tcp(port, Path()) as slow:
            reader, writer = await asyncio.open_connection(LOOPBACK, slow)
            await _end_of(reader)
            writer.close()


async def _end_of(reader: asyncio.StreamReader) -> None:
    try:
        assert await reader.read() == b""
    except ConnectionError:
        return


@pytest.mark.parametrize(
    "wrong",
    [{"delay_s": -1}, {"delay_s": 61}, {"loss": 1.0}, {"bytes_per_s": 0}, {"buffer_bytes_max": 0}],
    ids=str,
)
def test_paths_are_checked(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="out of range"):
        Path(**wrong)  # type: ignore[arg-type]
