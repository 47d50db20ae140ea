"""Real rings on this machine: the gateway in the test's process, each node in its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import openai
import psutil
from tests.support.forks import Program, start_plainly, start_program

from atoll.api.keys import KEYS_FILE, KeyStore
from atoll.domain.generation import GenerateRequest, SamplingParams
from atoll.gateway.options import RingOptions, ServeOptions
from atoll.gateway.serve import Gateway, open_gateway
from atoll.gateway.status import GatewayStatus
from atoll.members.register import REGISTER_FILE, Register
from atoll.net.ticket import Ticket
from atoll.net.transport import Way
from atoll.store.layout import FoundModel, Store

ELSEWHERE = Path(__file__).with_name("elsewhere.py")
GREEDY = SamplingParams(temperature=0.0)


async def wait_until(
    condition: Callable[[], object], *, timeout_s: float = 10.0, what: str = "the condition"
) -> float:
    """Wait until `condition` holds; returns the seconds it took."""
    start_s = time.monotonic()
    while not condition():
        assert time.monotonic() - start_s < timeout_s, f"{what} did not come in {timeout_s} s"
        await asyncio.sleep(0.02)
    return time.monotonic() - start_s


@dataclass
class Node:
    """A node's process, as `atoll join` starts it."""

    process: Program
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def said(self) -> str:
        return self.log.read_text()

    def stage_pid(self) -> int:
        """The process of its stage."""
        [child] = psutil.Process(self.pid).children()
        return child.pid

    async def wait_ended(self, timeout_s: float = 10.0) -> int:
        return await asyncio.wait_for(self.process.wait(), timeout_s)


@dataclass
class Ring:
    """A gateway with its nodes, and clients that hold a key."""

    gateway: Gateway
    model: FoundModel
    folder: Path
    store: Store
    said: list[str]
    secret: str
    http: httpx.AsyncClient
    client: openai.AsyncOpenAI
    nodes: list[Node] = field(default_factory=list)

    @property
    def status(self) -> GatewayStatus:
        return self.gateway.status()

    @property
    def name(self) -> str:
        return self.model.name

    async def add_node(
        self, join_file: Path | None, *arguments: str, home: Path | None = None
    ) -> Node:
        """Start a node with a join file and a home of its own, or one that comes back."""
        home = home or self.folder / f"node-{len(self.nodes) + 1}"
        log = self.folder / f"node-{len(self.nodes) + 1}.log"
        node = await start_node(
            join_file, home, log, "--model", str(self.model.path), *arguments, store=self.store
        )
        self.nodes.append(node)
        return node

    async def add_memory_node(self, lent: str = "64MB") -> Node:
        """Start a node that only lends memory, and wait until it is in."""
        path, home, log = (self.folder / f"shelf{end}" for end in (".join", "", ".log"))
        self.invite().write(path)
        shelf = await start_node(path, home, log, "--memory-only", lent, store=self.store)
        self.nodes.append(shelf)
        await wait_until(lambda: self.status.memory, timeout_s=30, what=f"the shelf ({shelf.said})")
        return shelf

    def invite(self) -> Ticket:
        """A ticket for one member."""
        register = Register(self.folder / "gateway" / REGISTER_FILE)
        invitation, secret = register.invite("friend", uses=1, lifetime_s=60)
        return Ticket(self.gateway.key, self.gateway.addresses, secret, invitation.expires)

    async def wait_ready(self, timeout_s: float = 30.0) -> float:
        return await wait_until(
            lambda: self.gateway.conductor.health().ready,
            timeout_s=timeout_s,
            what=f"the ring (said: {self.said[-5:]})",
        )

    async def wait_idle(self, timeout_s: float = 5.0) -> None:
        """Wait until no session holds a slot, here and on every stage."""
        await wait_until(
            lambda: self.status.active == 0 and self.status.waiting == 0,
            timeout_s=timeout_s,
            what="the last slot",
        )

    async def tokens(
        self, prompt: tuple[int, ...], n: int, *, exact: bool = True
    ) -> tuple[int, ...]:
        """Greedy tokens straight from the ring."""
        request = GenerateRequest(prompt, n, GREEDY, exact=exact, ignore_eos=True)
        return tuple([s.token async for s in self.gateway.conductor.generate(request)])

    async def stop_nodes(self) -> None:
        """Wait for the nodes that the gateway sent away; kill what stays."""
        for node in self.nodes:
            try:
                await node.wait_ended(3.0)
            except TimeoutError:
                node.process.kill()
                await node.process.wait()


async def start_node(
    join_file: Path | None,
    home: Path,
    log: Path,
    *arguments: str,
    store: Store,
    machine: str = "",
) -> Node:
    """Start `atoll join` in a process of its own, as if on another machine if one is named."""
    ticket = [str(join_file)] if join_file else []
    command = ["join", *ticket, "--home", str(home), "--name", home.name]
    command += ["--store", str(store.home), "--threads", "1", "--threads-large", "1", *arguments]
    if machine:
        process = await start_plainly([str(ELSEWHERE), machine, *command], log)
    else:
        process = await start_program(command, log)
    return Node(process, log)


@asynccontextmanager
async def open_ring(
    model: FoundModel,
    store: Store,
    folder: Path,
    options: RingOptions,
    *,
    join: bool = True,
    way: Way = "tls",
) -> AsyncIterator[Ring]:
    """A ring whose nodes have joined and are ready, unless `join` is False."""
    said: list[str] = []
    home = folder / "gateway"
    secret = KeyStore(home / KEYS_FILE).create("test").secret
    serve = ServeOptions(options, folder / "join", port=0, way=way)
    async with (
        AsyncExitStack() as after,
        open_gateway(model, store, home, serve, tell=said.append) as gateway,
        httpx.AsyncClient(
            base_url=gateway.url, headers={"authorization": f"Bearer {secret}"}, timeout=60
        ) as http,
        openai.AsyncOpenAI(
            base_url=f"{gateway.url}/v1", api_key=secret, max_retries=0, timeout=60
        ) as client,
    ):
        ring = Ring(gateway, model, folder, store, said, secret, http, client)
        after.push_async_callback(ring.stop_nodes)
        if join:
            for path in gateway.join_files:
                await ring.add_node(path, "--link", way)
            await ring.wait_ready()
        yield ring
