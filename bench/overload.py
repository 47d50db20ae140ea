"""Ten times as many clients as a ring has room for: how soon they are refused, and who pays.

A gateway and three nodes as processes of their own. First as many clients as may be in at
once (slots and line) ask in a closed loop, then ten times as many. Clients of the second
kind that are refused come back after `Retry-After`, but after a second at most. Gateway,
engines and clients share the machine's cores, so that every refusal takes time from answers.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import statistics
import sys
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from atoll.api.keys import KEYS_FILE, KeyStore
from atoll.demo.local_ring import LocalRing, LocalRingOptions
from atoll.store.layout import Store, default_home
from atoll.store.pull import pull
from bench.local import DEMO_SOURCE, PATH, open_ring

SLOTS = 4
WAITING = 4
TIMES = 10
KEYS = 4
CONTEXT = 256
PROMPT_TOKENS = 32
TOKENS = 24
ALONE_ANSWERS = 48
OVERLOAD_S = 30.0
RETRY_S_MAX = 1.0
HANG_S = 60.0
"""Whoever has no whole answer after that hangs."""
READ_BYTES = 65536


@dataclass
class Tally:
    """What became of the requests, seconds each."""

    answered_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
    codes: dict[str, int] = field(default_factory=dict)
    hangs: int = 0


class Clients:
    """Clients of one ring, each with a connection for each request."""

    def __init__(self, url: str, model: str, keys: list[str]) -> None:
        self._where = urllib.parse.urlsplit(url)
        self._model = model
        self._keys = keys
        self._numbers = itertools.count(1000)

    async def run(self, clients: int, tally: Tally, *, more: Iterator[object]) -> None:
        """Have so many clients ask again and again, as long as there is `more`."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(clients):
                key = self._keys[number % len(self._keys)]
                tasks.create_task(self._client(key, tally, more), name=f"client-{number}")

    async def _client(self, key: str, tally: Tally, more: Iterator[object]) -> None:
        for _ in more:
            began_s = time.perf_counter()
            try:
                async with asyncio.timeout(HANG_S):
                    answer = await self._ask(key)
            except (TimeoutError, ConnectionError):
                tally.hangs += 1
                continue
            took_s = time.perf_counter() - began_s
            head, _, body = answer.partition(b"\r\n\r\n")
            if head.startswith(b"HTTP/1.1 200") and b"[DONE]" in body:
                tally.answered_s.append(took_s)
                continue
            status = head[9:12].decode()
            if status not in ("429", "503"):
                # A connection that ends with nothing, or in the middle, is no answer either.
                tally.hangs += 1
                continue
            tally.refused_s.append(took_s)
            tally.codes[status] = tally.codes.get(status, 0) + 1
            await asyncio.sleep(min(RETRY_S_MAX, _retry_after_s(head)))

    async def _ask(self, key: str) -> bytes:
        first = next(self._numbers)
        body = json.dumps(
            {
                "model": self._model,
                "prompt": [first % 40_000, *range(100, 100 + PROMPT_TOKENS - 1)],
                "max_tokens": TOKENS,
                "temperature": 0,
                "ignore_eos": True,
                "stream": True,
            }
        ).encode()
        head = (
            f"POST {PATH} HTTP/1.1\r\nHost: {self._where.netloc}\r\n"
            f"Authorization: Bearer {key}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        reader, writer = await asyncio.open_connection(self._where.hostname, self._where.port)
        try:
            writer.write(head.encode() + body)
            chunks = []
            while chunk := await reader.read(READ_BYTES):
                chunks.append(chunk)
            return b"".join(chunks)
        finally:
            writer.close()


def _retry_after_s(head: bytes) -> float:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"retry-after:"):
            return float(line.partition(b":")[2])
    raise RuntimeError("a refusal without Retry-After")


def _until(ends_s: float) -> Iterator[float]:
    """Steps, as long as it is not that late."""
    while (now_s := time.perf_counter()) < ends_s:
        yield now_s


async def measure(ring: LocalRing, model: str) -> dict[str, Any]:
    """Both kinds of load, one after the other."""
    keys = KeyStore(ring.home / KEYS_FILE)
    secrets = [keys.create(f"bench-{number}").secret for number in range(KEYS)]
    clients = Clients(ring.endpoint.url, model, secrets)
    together = SLOTS + WAITING
    await clients.run(together, Tally(), more=iter(range(2 * together)))
    alone, overload = Tally(), Tally()
    await clients.run(together, alone, more=iter(range(ALONE_ANSWERS)))
    print(f"alone: {len(alone.answered_s)} answers", file=sys.stderr, flush=True)
    ends_s = time.perf_counter() + OVERLOAD_S
    # One iterator for all would say to each in turn whether it is late.
    await clients.run(TIMES * together, overload, more=_until(ends_s))
    return _figures(alone, overload)


def _figures(alone: Tally, overload: Tally) -> dict[str, Any]:
    alone_s, overload_s = map(statistics.mean, (alone.answered_s, overload.answered_s))
    refused_ms = sorted(1e3 * s for s in overload.refused_s)
    return {
        "refuse_ms_p95": round(refused_ms[int(0.95 * len(refused_ms))], 1),
        "admitted_slowdown": round(overload_s / alone_s, 3),
        "hangs": alone.hangs + overload.hangs,
        "refuse_ms_p50": round(refused_ms[len(refused_ms) // 2], 1),
        "refuse_ms_max": round(refused_ms[-1], 1),
        "alone_s": round(alone_s, 3),
        "overload_s": round(overload_s, 3),
        "answered": len(overload.answered_s),
        "refused": len(overload.refused_s),
        "refused_codes": overload.codes,
        "refused_alone": len(alone.refused_s),
    }


async def _run() -> dict[str, Any]:
    store = Store(default_home())
    model = store.resolve(pull(DEMO_SOURCE, store=store).model)
    options = LocalRingOptions(
        nodes=3, streams=SLOTS, context=CONTEXT, more=("--waiting", str(WAITING))
    )
    async with open_ring(model, store, options) as ring:
        return await measure(ring, model.name)


def run() -> dict[str, Any]:
    """Measure; about a minute."""
    return asyncio.run(_run())
