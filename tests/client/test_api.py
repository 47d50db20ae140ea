"""The client before the gateway's real web server, and before strangers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest
from tests.client.conftest import STATUS, Gateway
from tests.support.scripted import MODEL, fail, flood, say

from atoll.api.backend import Health
from atoll.client.api import ApiClient, ApiFault, ChatMessage, ChatOptions, Part
from atoll.client.endpoint import Endpoint
from atoll.domain.errors import RingDown

pytestmark = pytest.mark.network

HELLO = [ChatMessage("system", "Be a gull."), ChatMessage("user", "Hello")]


async def _all(gateway: Gateway, options: ChatOptions | None = None) -> list[Part]:
    async with aclosing(gateway.client.chat(MODEL, HELLO, options)) as parts:
        return [part async for part in parts]


async def test_an_answer_is_streamed(gateway: Gateway) -> None:
    gateway.backend.sampler = say(" the", " sea", b"\xe2\x82", b"\xac")
    parts = await _all(gateway)
    assert "".join(part.text for part in parts) == " the sea€"
    assert [part.finish for part in parts if part.finish] == ["stop"]
    usage = [part.usage for part in parts if part.usage]
    assert len(usage) == 1
    assert usage[0].completion_tokens == 5


async def test_options_reach_the_ring(gateway: Gateway) -> None:
    options = ChatOptions(
        max_tokens=3,
        temperature=0.5,
        seed=7,
        extra={"exact": True, "logprobs": True, "ignore_eos": True},
    )
    parts = await _all(gateway, options)
    request = gateway.backend.requests[0]
    assert (request.max_tokens, request.exact, request.ignore_eos) == (3, True, True)
    assert (request.sampling.temperature, request.sampling.seed) == (0.5, 7)
    tokens = [token for part in parts for token in part.tokens]
    assert len(tokens) == 3
    assert all(token.bytes for token in tokens)


async def test_leaving_early_cancels(gateway: Gateway) -> None:
    gateway.backend.sampler = flood
    async with aclosing(gateway.client.chat(MODEL, HELLO)) as parts:
        async for _part in parts:
            break
    async with asyncio.timeout(10):
        await gateway.backend.all_closed.wait()


async def test_a_ring_that_breaks_mid_answer(gateway: Gateway) -> None:
    gateway.backend.sampler = fail(RingDown("a node is gone", hint="wait"), "so", " far")
    said = []

    async def listen() -> None:
        async with aclosing(gateway.client.chat(MODEL, HELLO)) as parts:
            async for part in parts:
                said.append(part.text)

    with pytest.raises(ApiFault, match="broke off: a node is gone"):
        await listen()
    assert "".join(said) == "so far"


async def test_health_models_and_status(gateway: Gateway) -> None:
    assert (await gateway.client.health()).status == "ok"
    assert await gateway.client.models() == (MODEL,)
    assert await gateway.client.status() == STATUS
    gateway.backend.state = Health(ready=False, reason="two nodes are missing")
    health = await gateway.client.health()
    assert (health.status, health.reason) == ("unavailable", "two nodes are missing")
    with pytest.raises(ApiFault, match="two nodes are missing") as caught:
        await _all(gateway)
    assert caught.value.status == 503


async def test_refusals_come_with_what_to_do(gateway: Gateway) -> None:
    async with ApiClient(Endpoint.at(gateway.endpoint.url, "atoll-wrong")) as client:
        with pytest.raises(ApiFault, match="key is wrong") as caught:
            await client.status()
    assert caught.value.status == 401
    assert "ATOLL_API_KEY" in caught.value.hint
    with pytest.raises(ApiFault, match="max_tokens") as caught:
        await _all(gateway, ChatOptions(max_tokens=0))
    assert caught.value.status == 400


async def test_a_completion_comes_as_bytes(gateway: Gateway) -> None:
    gateway.backend.sampler = say(" the", " sea")
    asked = {"model": MODEL, "prompt": [1, 2, 3], "max_tokens": 4}
    begun: list[int] = []
    stream = gateway.client.completion_bytes(asked, lambda: begun.append(gateway.backend.yielded))
    async with aclosing(stream) as pieces:
        body = b"".join([piece async for piece in pieces])
    assert begun == [0]
    assert body.endswith(b"data: [DONE]\n\n")
    assert b'"text":" sea"' in body
    assert b'"prompt_tokens":3' in body
    assert gateway.backend.requests[0].prompt == (1, 2, 3)


async def test_leaving_a_completion_early_cancels_it(gateway: Gateway) -> None:
    gateway.backend.sampler = flood
    asked = {"model": MODEL, "prompt": "sea"}
    async with aclosing(gateway.client.completion_bytes(asked, lambda: None)) as pieces:
        async for _piece in pieces:
            break
    async with asyncio.timeout(10):
        await gateway.backend.all_closed.wait()


async def test_a_completion_that_is_refused(gateway: Gateway) -> None:
    async with aclosing(gateway.client.completion_bytes({"model": MODEL}, lambda: None)) as pieces:
        with pytest.raises(ApiFault, match="the field prompt is missing") as caught:
            await anext(pieces)
    assert caught.value.status == 400


async def test_nobody_there() -> None:
    async with ApiClient(Endpoint.at("http://127.0.0.1:1")) as client:
        with pytest.raises(ApiFault, match="cannot reach") as caught:
            await client.health()
    assert "atoll serve" in caught.value.hint


@asynccontextmanager
async def _stranger(answer: bytes) -> AsyncIterator[ApiClient]:
    """A server that says `answer` to everything and closes the connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        async with ApiClient(Endpoint.at(f"http://127.0.0.1:{port}")) as client:
            yield client
    finally:
        server.close()
        await server.wait_closed()


OK = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"", "connection"),
        (b"SSH-2.0-server\r\n", "connection"),
        (OK + b"<html>", "would not"),
        (OK + b'{"data": 3}', "would not"),
        (OK + b"\xff\xfe", "would not"),
        (OK + b"x" * (9 << 20), "longer than"),
        (b"HTTP/1.1 502 Bad Gateway\r\nconnection: close\r\n\r\noops", "502 Bad Gateway"),
    ],
)
async def test_strangers_are_told_apart(answer: bytes, problem: str) -> None:
    async with _stranger(answer) as client:
        with pytest.raises(ApiFault, match=problem):
            await client.models()


@pytest.mark.parametrize(
    ("events", "problem"),
    [
        (b"", "closed the connection"),
        (b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n', "closed the connection"),
        (b'data: {"error": {"message": "no power"}}\n\n', "no power"),
        (b"data: [1\n\n", "would not"),
    ],
)
async def test_streams_that_end_badly(events: bytes, problem: str) -> None:
    async with _stranger(OK + events) as client:
        with pytest.raises(ApiFault, match=problem):
            async with aclosing(client.chat("any", HELLO)) as parts:
                _ = [part async for part in parts]


async def test_other_servers_say_more_and_less() -> None:
    events = (
        b'data: {"id": "x", "choices": [{"index": 0, "delta": {"role": "assistant"}}]}\n\n'
        b'data: {"choices": [{"delta": {"content": "hi", "refusal": null}, "logprobs": null}]}\n\n'
        b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": null}\n\n'
        b"data: [DONE]\n\n"
    )
    async with _stranger(OK + events) as client, aclosing(client.chat("any", HELLO)) as parts:
        found = [part async for part in parts]
    assert "".join(part.text for part in found) == "hi"
    assert found[-1].finish == "stop"
