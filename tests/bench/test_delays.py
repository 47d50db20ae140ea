from __future__ import annotations

import asyncio
import time

import pytest
from bench.delays import open_delays
from bench.slow_net import LOOPBACK

pytestmark = pytest.mark.network
DELAY_S = 0.05


async def test_a_way_takes_as_long_as_was_told_last() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(64):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(serve, LOOPBACK, 0)
    port = server.sockets[0].getsockname()[1]
    async with asyncio.timeout(30), server, open_delays([port]) as delays:
        reader, writer = await asyncio.open_connection(LOOPBACK, delays.ways[port])

        async def round_trip_s() -> float:
            began_s = time.monotonic()
            writer.write(b"here")
            assert await reader.readexactly(4) == b"here"
            return time.monotonic() - began_s

        await round_trip_s()
        await delays.set(DELAY_S)
        assert await round_trip_s() >= 1.9 * DELAY_S
        await delays.set(0.0)
        assert min([await round_trip_s() for _ in range(20)]) < DELAY_S
        writer.close()
