"""A frugal streaming client: on two cores a heavy one would be measured itself."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from atoll.client.endpoint import Endpoint

EVENT = b"data: {"
READ_BYTES = 65536
LIMIT_S = 300


@dataclass(frozen=True, slots=True)
class Streamed:
    """One answer: when it was asked for, when tokens came, and all events."""

    asked_s: float
    arrivals_s: tuple[float, ...]
    body: bytes

    @property
    def first_s(self) -> float:
        """Time to the first token."""
        return self.arrivals_s[0] - self.asked_s

    def tokens(self) -> list[str]:
        """Texts of the tokens; needs log-probabilities in the answer."""
        found: list[str] = []
        for line in self.body.split(b"\n"):
            if line.startswith(EVENT):
                for choice in json.loads(line[len(b"data: ") :])["choices"]:
                    found += (choice.get("logprobs") or {}).get("tokens", [])
        return found


async def stream(
    endpoint: Endpoint,
    path: str,
    request: dict[str, Any],
    arrivals: list[float] | None = None,
) -> Streamed:
    """POST a streaming request and take its events.

    Args:
        endpoint: Whom to ask.
        path: Where.
        request: What, without "stream".
        arrivals: A list that is to have the times of tokens as they come.

    Raises:
        RuntimeError: The answer is an error.
    """
    where = urllib.parse.urlsplit(endpoint.url)
    body = json.dumps({**request, "stream": True}).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {endpoint.key}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    async with asyncio.timeout(LIMIT_S):
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        asked_s = time.perf_counter()
        writer.write(head.encode() + body)
        arrivals = [] if arrivals is None else arrivals
        chunks: list[bytes] = []
        while chunk := await reader.read(READ_BYTES):
            events = chunk.count(EVENT)
            arrivals += [time.perf_counter()] * events
            chunks.append(chunk)
        writer.close()
        await writer.wait_closed()
    answer = b"".join(chunks)
    if not answer.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(answer[-500:].decode(errors="replace"))
    return Streamed(asked_s, tuple(arrivals), answer)


async def stream_all(
    endpoint: Endpoint, path: str, requests: Sequence[dict[str, Any]]
) -> list[Streamed]:
    """Several at once."""
    return list(await asyncio.gather(*(stream(endpoint, path, request) for request in requests)))
