"""Clients that go away at any moment, beside streams that must not notice.

The gateway runs here, each of three nodes in a process of its own. Clients leave before
they have said anything, in the middle of header fields or body, while their prompt is
computed, or after some tokens, half of them with a reset. One second later it is looked
whether anything in the ring still belongs to them. Beside them a few exact answers are
given again and again, and held against those of a quiet ring.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import struct
import sys
import tempfile
import time
import urllib.parse
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from atoll.client.endpoint import Endpoint
from atoll.demo.programs import started
from atoll.gateway.options import RingOptions, ServeOptions
from atoll.gateway.serve import Gateway, open_gateway
from atoll.store.layout import FoundModel, Store, default_home
from atoll.store.pull import pull
from bench.local import DEMO_SOURCE, PATH
from bench.stream import stream

CLIENTS = 2000
AT_ONCE = 12
STREAMS = 8
CONTEXT = 512
PROMPT_TOKENS = 96
TOKENS = 48
STEADY = 2
STEADY_TOKENS = 32
FREE_S = 1.0
LEAVE_S_MAX = 0.4
"""Longest time after which a client leaves that waits for its prompt."""
EVENTS_MAX = 6
PATIENCE_S = 120.0
READY_S = 120.0
FIRST_MARK = 2000
"""Prompts of the clients that leave begin with a token of their own, from this one on."""
MOMENTS = ("connected", "headers", "body", "prompt", "stream")
LINGER_NONE = struct.pack("ii", 1, 0)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@dataclass
class Tally:
    """What became of it."""

    left: Counter[str] = field(default_factory=Counter)
    freed: int = 0
    steady: int = 0
    touched: int = 0


@contextlib.asynccontextmanager
async def open_here(
    model: FoundModel, store: Store, folder: Path, ring: RingOptions
) -> AsyncIterator[Gateway]:
    """A gateway in this process, and its nodes in theirs."""
    serve = ServeOptions(ring, folder / "join", port=0, way="tls", auth=False)
    async with contextlib.AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(
            open_gateway(model, store, folder / "gateway", serve, tell=_say)
        )
        for number, file in enumerate(gateway.join_files, start=1):
            name = f"node-{number}"
            arguments = ["join", str(file), "--name", name, "--home", str(folder / name)]
            arguments += ["--store", str(store.home), "--model", str(model.path), "--gpu", "none"]
            arguments += ["--threads", "1", "--threads-large", "1"]
            await stack.enter_async_context(started(name, arguments, folder))
        async with asyncio.timeout(READY_S):
            await gateway.conductor.became_ready.wait()
        yield gateway


def holds(gateway: Gateway, mark: int) -> bool:
    """Whether a request whose prompt begins with `mark` waits or holds a slot."""
    for ring in gateway.conductor.rings:
        if ring.driver is None:
            continue
        machine = ring.driver._machine
        tenants = machine._tenants
        if any(waiting.request.prompt[0] == mark for waiting in machine.line):
            return True
        # What rests gives its slot to whoever wants it.
        held = [s for s in tenants.by_id.values() if s not in tenants._resting]
        if any(session.request.prompt[0] == mark for session in held):
            return True
    return False


class Leavers:
    """Clients that leave."""

    def __init__(self, gateway: Gateway, model: str, rng: random.Random, tally: Tally) -> None:
        self._gateway = gateway
        self._where = urllib.parse.urlsplit(gateway.url)
        self._model = model
        self._rng = rng
        self._tally = tally

    async def run(self, clients: int) -> None:
        """So many in all, a few at once; each is looked after when it has left."""
        at_once = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as tasks:
            for number in range(clients):
                await at_once.acquire()
                mark = FIRST_MARK + number
                tasks.create_task(self._leave(mark, at_once, tasks), name=f"leaver-{number}")

    async def _look(self, mark: int) -> None:
        await asyncio.sleep(FREE_S)
        self._tally.freed += not holds(self._gateway, mark)

    async def _leave(self, mark: int, at_once: asyncio.Semaphore, tasks: asyncio.TaskGroup) -> None:
        try:
            await self._come_and_go(mark)
        finally:
            at_once.release()
        tasks.create_task(self._look(mark), name=f"look-{mark}")

    async def _come_and_go(self, mark: int) -> None:
        moment, resets = self._rng.choice(MOMENTS), self._rng.random() < 0.5
        wait_s = self._rng.uniform(0, LEAVE_S_MAX)
        head, body = self._request(mark)
        sock = socket.socket()
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        assert self._where.hostname is not None
        await loop.sock_connect(sock, (self._where.hostname, self._where.port))
        try:
            match moment:
                case "headers":
                    await loop.sock_sendall(sock, head[: self._rng.randrange(1, len(head))])
                case "body":
                    await loop.sock_sendall(sock, head + body[: self._rng.randrange(len(body))])
                case "prompt" | "stream":
                    await loop.sock_sendall(sock, head + body)
            if moment == "stream":
                async with asyncio.timeout(PATIENCE_S):
                    await self._read_some(sock)
            else:
                await asyncio.sleep(wait_s if moment == "prompt" else wait_s / 20)
        finally:
            if resets:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
            else:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_WR)
            sock.close()
        self._tally.left[f"{moment}-{'rst' if resets else 'fin'}"] += 1

    async def _read_some(self, sock: socket.socket) -> None:
        answer, wanted = b"", self._rng.randint(1, EVENTS_MAX)
        # An answer of tokens without a text has few events.
        while answer.count(b"data: ") < wanted and b"[DONE]" not in answer:
            part = await asyncio.get_running_loop().sock_recv(sock, 65536)
            if not part:
                raise RuntimeError(f"the gateway hung up on a client, after {answer!r}")
            answer += part

    def _request(self, mark: int) -> tuple[bytes, bytes]:
        body = json.dumps(
            {
                "model": self._model,
                "prompt": [mark, *range(100, 100 + PROMPT_TOKENS)],
                "max_tokens": TOKENS,
                "ignore_eos": True,
                "stream": True,
            }
        ).encode()
        head = (
            f"POST {PATH} HTTP/1.1\r\nHost: {self._where.netloc}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode(), body


async def _steady(endpoint: Endpoint, model: str, number: int) -> list[str]:
    request = {
        "model": model,
        "prompt": [500 + number, *range(900, 900 + 12)],
        "max_tokens": STEADY_TOKENS,
        "temperature": 0,
        "exact": True,
        "ignore_eos": True,
        "logprobs": 0,
    }
    return (await stream(endpoint, PATH, request)).tokens()


async def measure(gateway: Gateway, model: str, clients: int, seed: int) -> dict[str, Any]:
    """Quiet answers first, then the same beside those who leave."""
    tally, endpoint = Tally(), Endpoint(gateway.url, "")
    quiet = [await _steady(endpoint, model, number) for number in range(STEADY)]
    done = asyncio.Event()

    async def keep_on(number: int) -> None:
        while not done.is_set():
            try:
                same = await _steady(endpoint, model, number) == quiet[number]
            except (RuntimeError, OSError, TimeoutError) as error:
                _say(f"steady: {error!r}")
                same = False
            tally.steady += 1
            tally.touched += not same

    rng = random.Random(seed)
    began_s = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for number in range(STEADY):
            tasks.create_task(keep_on(number), name=f"steady-{number}")
        await Leavers(gateway, model, rng, tally).run(clients)
        done.set()
    took_s = time.perf_counter() - began_s
    left = sum(tally.left.values())
    return {
        "disconnects": left,
        "slots_freed_1s": round(tally.freed / left, 5),
        "others_touched": tally.touched,
        "steady_answers": tally.steady,
        "seconds": round(took_s, 1),
        "moments": dict(sorted(tally.left.items())),
        "left_over": gateway.status().active + gateway.status().waiting,
    }


async def _run(clients: int, seed: int) -> dict[str, Any]:
    store = Store(default_home())
    model = store.resolve(pull(DEMO_SOURCE, store=store).model)
    ring = RingOptions(nodes=3, streams=STREAMS, context=CONTEXT, spin=1000)
    with tempfile.TemporaryDirectory(prefix="atoll-bench-") as folder:
        async with open_here(model, store, Path(folder), ring) as gateway:
            return await measure(gateway, model.name, clients, seed)


def run(clients: int = CLIENTS, seed: int = 1) -> dict[str, Any]:
    """Measure; some minutes."""
    return uvloop.run(_run(clients, seed))
