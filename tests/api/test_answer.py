"""Answers to clients that leave, that do not read, and to rings that fail midway."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncGenerator
from urllib.parse import urlsplit

import pytest
from tests.api.conftest import Door, Doors
from tests.support.scripted import MODEL, fail, flood

from atoll.api.limits import Limits
from atoll.domain.errors import BadRequest, RingDown
from atoll.domain.generation import GenerateRequest, Sampled

pytestmark = pytest.mark.network


async def stall(_request: GenerateRequest) -> AsyncGenerator[Sampled, None]:
    yield Sampled(1, b"one")
    await asyncio.Event().wait()


async def mute(_request: GenerateRequest) -> AsyncGenerator[Sampled, None]:
    await asyncio.Event().wait()
    yield Sampled(1, b"never")


def raw_request(door: Door, **fields: object) -> bytes:
    body = json.dumps({"model": MODEL, "prompt": "x", **fields}).encode()
    return (
        b"POST /v1/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n"
        b"content-type: application/json\r\n"
        b"authorization: Bearer " + door.secret.encode() + b"\r\n"
        b"content-length: " + str(len(body)).encode() + b"\r\n\r\n" + body
    )


def connect(door: Door, receive_buffer_bytes: int = 65536) -> socket.socket:
    address = urlsplit(door.url)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
    sock.connect((address.hostname, address.port))
    sock.setblocking(False)
    return sock


async def wait_opened(door: Door, n: int) -> None:
    async with asyncio.timeout(5):
        while door.backend.open < n:
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("sampler", [stall, mute])
async def test_a_client_that_leaves_cancels_its_generations(
    door: Door, sampler: object, stream: bool
) -> None:
    door.backend.sampler = sampler  # type: ignore[assignment]
    with connect(door) as sock:
        await asyncio.get_running_loop().sock_sendall(sock, raw_request(door, stream=stream, n=3))
        await wait_opened(door, 3)
    async with asyncio.timeout(1):
        await door.backend.all_closed.wait()
    assert (door.backend.open, door.backend.closed) == (0, 3)


async def test_a_client_that_stops_reading_is_cut_off(doors: Doors) -> None:
    door = await doors.open(limits=Limits(write_timeout_s=0.3))
    door.backend.sampler = flood
    with connect(door) as sock:
        await asyncio.get_running_loop().sock_sendall(sock, raw_request(door, stream=True))
        await wait_opened(door, 1)
        async with asyncio.timeout(10):
            await door.backend.all_closed.wait()
        # What it took is bounded by the buffers of queue, server and system.
        assert door.backend.yielded < 2000
        # The system still delivers what it had taken, and then the end.
        rest = b""
        async with asyncio.timeout(5):
            while part := await asyncio.get_running_loop().sock_recv(sock, 1 << 20):
                rest = (rest + part)[-64:]
        assert not rest.endswith(b"0\r\n\r\n")
    assert (await door.complete(prompt="x", max_tokens=0)).status_code == 400


async def test_a_slow_client_slows_only_itself(doors: Doors) -> None:
    door = await doors.open(limits=Limits(write_timeout_s=20))
    door.backend.sampler = flood
    with connect(door) as sock:
        await asyncio.get_running_loop().sock_sendall(sock, raw_request(door, stream=True))
        await wait_opened(door, 1)
        seen = -1
        async with asyncio.timeout(10):
            while seen != door.backend.yielded:
                seen = door.backend.yielded
                await asyncio.sleep(0.2)
        reply = await door.http.get("/v1/models")
        assert reply.status_code == 200
        assert door.backend.yielded == seen
    async with asyncio.timeout(2):
        await door.backend.all_closed.wait()


async def test_a_ring_that_fails_midway_ends_the_stream_with_an_error(door: Door) -> None:
    door.backend.sampler = fail(RingDown("node reef left the ring"), "one")
    for fields in ({"stream": True}, {"stream": True, "n": 2}):
        reply = await door.complete(**fields)
        assert reply.status_code == 200
        *_, last, rest = reply.text.split("\n\n")
        assert rest == ""
        kind, data = last.split("\n")
        assert kind == "event: error"
        error = json.loads(data.removeprefix("data: "))["error"]
        assert (error["code"], error["message"]) == ("ring_down", "node reef left the ring")
        assert "[DONE]" not in reply.text


async def test_a_ring_that_fails_midway_is_a_status_without_streaming(door: Door) -> None:
    door.backend.sampler = fail(RingDown("node reef left the ring"), "one")
    reply = await door.complete()
    assert reply.status_code == 503
    assert reply.json()["error"]["code"] == "ring_down"


async def test_a_request_the_ring_refuses_is_400(door: Door) -> None:
    door.backend.sampler = fail(BadRequest("too long for this ring", param="prompt"))
    for stream in (False, True):
        reply = await door.complete(stream=stream)
        assert (reply.status_code, reply.json()["error"]["param"]) == (400, "prompt")


async def test_our_own_mistake_midway_says_nothing(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    door.backend.sampler = fail(ValueError("a secret detail"), "one")
    reply = await door.complete(stream=True)
    assert "event: error" in reply.text
    assert "secret" not in reply.text
    assert "a secret detail" in caplog.text


async def test_two_requests_on_one_connection(door: Door) -> None:
    for stream in (True, False, True):
        assert (await door.complete(stream=stream)).status_code == 200


async def test_how_streams_ended_is_logged(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="atoll"):
        await door.complete(stream=True)
        door.backend.sampler = fail(RingDown("gone"), "one")
        await door.complete(stream=True)
    outcomes = [
        r.getMessage().split("outcome=")[1].split()[0]
        for r in caplog.records
        if "outcome=" in r.getMessage()
    ]
    assert outcomes == ["done", "failed"]
