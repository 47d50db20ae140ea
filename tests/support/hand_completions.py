"""A server of the completions API in a few lines: it answers as a test says, well or badly."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

Asked = dict[str, Any]
Answer = Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/event-stream\r\n\r\n"
DONE = b"data: [DONE]\n\n"


def event(**fields: object) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def token(text: str = " x", finish: str | None = None) -> bytes:
    return event(choices=[{"index": 0, "text": text, "finish_reason": finish}])


def usage(prompt: int, completion: int) -> bytes:
    return event(choices=[], usage={"prompt_tokens": prompt, "completion_tokens": completion})


def refusal(status: str, problem: str) -> bytes:
    body = json.dumps({"error": {"message": problem, "type": "server_error"}}).encode()
    head = f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    return head.encode() + body


async def well(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """Every token in a write of its own, then usage."""
    n_tokens = asked["max_tokens"]
    writer.write(OK)
    for number in range(n_tokens):
        writer.write(token(finish="length" if number + 1 == n_tokens else None))
        await writer.drain()
        await asyncio.sleep(0.002)
    writer.write(usage(len(asked["prompt"]), n_tokens) + DONE)


def says(*pieces: bytes) -> Answer:
    """The same bytes to everybody."""

    async def answer(_asked: Asked, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.002)

    return answer


def after(n_good: int, bad: Answer) -> Answer:
    """Well for the first `n_good` requests, then badly."""
    left = n_good

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        nonlocal left
        left -= 1
        await (well if left >= 0 else bad)(asked, writer)

    return answer


def one_at_a_time() -> Answer:
    """Well, but nobody is begun before the one before is done."""
    busy = asyncio.Lock()

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        async with busy:
            await well(asked, writer)

    return answer


@dataclass
class HandCompletions:
    """The running server; `left` is set when a client has gone before its answer's end."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)


@asynccontextmanager
async def hand_completions(
    answer: Answer | None = well, *, status: bytes | None = None
) -> AsyncIterator[HandCompletions]:
    """Serve the model "shell".

    `answer` None says nothing until the client leaves; `status` is what `GET /status`
    answers, None: 404.
    """
    server = HandCompletions()
    not_found = refusal("404 Not Found", "no such path")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            path = head.split()[1]
            if path == "/v1/models":
                body = b'{"object": "list", "data": [{"id": "shell"}]}'
                writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + body)
            elif path == "/v1/completions":
                size = next(
                    int(line.split(":")[1])
                    for line in head.splitlines()
                    if line.lower().startswith("content-length:")
                )
                asked = json.loads(await reader.readexactly(size))
                server.asked.append(asked)
                if answer is None:
                    await reader.read()
                    server.left.set()
                else:
                    await answer(asked, writer)
            else:
                writer.write(not_found if status is None else status)
            await writer.drain()
        except ConnectionError:
            server.left.set()
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listening.close()
        await listening.wait_closed()
