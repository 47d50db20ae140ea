"""The connection: what uvicorn would wait for or read without end."""

from __future__ import annotations

import asyncio
import json
from urllib.parse import urlsplit

import pytest
from tests.api.conftest import Door, Doors

from atoll.api.limits import Limits

pytestmark = pytest.mark.network


async def talk(door: Door, *parts: bytes, pause_s: float = 0.0) -> tuple[int, str, bytes]:
    """Send the parts, read to the end: status, error code, everything."""
    address = urlsplit(door.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        async with asyncio.timeout(10):
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(pause_s)
            reply = await reader.read()
    finally:
        writer.close()
    head, _, body = reply.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]["code"], reply


async def test_header_fields_without_an_end(doors: Doors) -> None:
    door = await doors.open(limits=Limits(header_bytes_max=4000))
    start = b"GET /health HTTP/1.1\r\nx-long: "
    status, code, _ = await talk(door, start, b"x" * 3000, b"x" * 3000, pause_s=0.05)
    assert (status, code) == (431, "headers_too_large")


async def test_a_client_that_sends_nothing(doors: Doors) -> None:
    door = await doors.open(limits=Limits(header_timeout_s=0.1))
    assert (await talk(door))[:2] == (408, "request_timeout")


async def test_a_client_that_sends_half_a_request(doors: Doors) -> None:
    door = await doors.open(limits=Limits(header_timeout_s=0.2))
    status, code, _ = await talk(door, b"GET /health HTTP/1.1\r\n")
    assert (status, code) == (408, "request_timeout")


async def test_blank_lines_do_not_keep_a_connection(doors: Doors) -> None:
    door = await doors.open(limits=Limits(header_timeout_s=0.2))
    address = urlsplit(door.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    async with asyncio.timeout(5):
        writer.write(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        await reader.readuntil(b'"}')
        writer.write(b"\r\n")
        assert b"408" in await reader.read()
    writer.close()


async def test_a_body_that_does_not_come(doors: Doors) -> None:
    door = await doors.open(limits=Limits(body_timeout_s=0.1))
    head = (
        b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        b"authorization: Bearer " + door.secret.encode() + b"\r\ncontent-length: 100\r\n\r\n"
    )
    status, code, reply = await talk(door, head, b"{")
    assert (status, code) == (408, "request_timeout")
    assert b"connection: close" in reply


@pytest.mark.parametrize("data", [b"\x16\x03\x01\x02\x00\x01", b"hello\r\n\r\n", b"GET  \r\n\r\n"])
async def test_what_is_not_http(door: Door, data: bytes) -> None:
    assert (await talk(door, data))[:2] == (400, "invalid_http")


async def test_one_connection_too_many(doors: Doors) -> None:
    door = await doors.open(limits=Limits(connections_max=1))
    assert (await door.http.get("/health")).status_code == 200
    status, code, _ = await talk(door)
    assert (status, code) == (503, "overloaded")
    assert (await door.http.get("/health")).status_code == 200


async def test_a_body_announced_too_large_is_refused_before_it_is_sent(doors: Doors) -> None:
    door = await doors.open(limits=Limits(body_bytes_max=1000))
    head = (
        b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        b"authorization: Bearer " + door.secret.encode() + b"\r\n"
        b"expect: 100-continue\r\ncontent-length: 5000000\r\n\r\n"
    )
    assert (await talk(door, head))[:2] == (413, "body_too_large")


async def test_an_endless_body_is_cut_off(doors: Doors) -> None:
    door = await doors.open(limits=Limits(body_bytes_max=10_000))
    head = (
        b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        b"authorization: Bearer " + door.secret.encode() + b"\r\n"
        b"transfer-encoding: chunked\r\n\r\n"
    )
    chunk = b"2710\r\n" + b"x" * 10_000 + b"\r\n"
    status, code, _ = await talk(door, head, *[chunk] * 5, pause_s=0.01)
    assert (status, code) == (413, "body_too_large")
