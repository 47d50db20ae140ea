"""A fleet of unequal nodes at unequal distances, on one machine, whose rings are chosen by hand.

The gateway runs here, each node in a process of its own as `atoll join` starts it.
Its stage stands still for a share of the time (`slowed`). All links, the control
links too, go through proxies that delay them (`slow_net`): node i is `delay_s` away
from a common middle, as homes are from the internet's.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path as FilePath

import msgspec

from atoll.demo.programs import started
from atoll.domain.address import Address, HostPort
from atoll.domain.errors import RingDown
from atoll.domain.generation import GenerateRequest, SamplingParams
from atoll.gateway.casting import Cast, Times
from atoll.gateway.known_times import known_times
from atoll.gateway.options import RingOptions, ServeOptions
from atoll.gateway.serve import Gateway, open_gateway
from atoll.members.member import Member
from atoll.members.register import REGISTER_FILE, Register
from atoll.net.ticket import Ticket
from atoll.plan.predict import Placed
from atoll.store.layout import FoundModel, Store
from bench.slow_net import LOOPBACK, Path, slow_tcp

READY_S = 120
POLL_S = 0.02
PROMPT = (5, 6, 7, 8)
"""What streams begin with: any tokens."""


@dataclass(frozen=True, slots=True)
class LabNode:
    """A node: the share of time that its stage runs, and its distance from the middle."""

    name: str
    share: float
    delay_s: float


@dataclass
class Lab:
    """A gateway with its nodes; `ring` makes the next ring."""

    gateway: Gateway
    nodes: Sequence[LabNode]
    ports: dict[tuple[str, str], int]
    """The proxy on the way from one to another; "" is the gateway."""
    own_ports: dict[str, int]
    """Where each listens itself, the gateway too."""
    delays_s: dict[str, float]
    """How far each is from the middle, the gateway not at all at first; may be changed."""
    _next: list[tuple[str, int, int]] = field(default_factory=list)
    _formed: int = 0

    def way_s(self, source: str, target: str) -> float:
        """One way from one to another; "" is the gateway."""
        return self.delays_s[source] + self.delays_s[target]

    def port(self, source: str, target: str) -> int:
        """Where one dials another. Past the proxy if they are not apart: it takes time itself."""
        return self.ports[source, target] if self.way_s(source, target) else self.own_ports[target]

    @property
    def members(self) -> dict[str, Member]:
        """Who is in, by name."""
        return {m.name: m for m in self.gateway.conductor._fleet.everybody}

    def times(self) -> Times:
        """What was measured of ends, nodes and links."""
        conductor = self.gateway.conductor
        links = conductor._fleet.measuring.distances.links()
        found = known_times(conductor.rings[0].ends.window_s, self.members.values(), links)
        assert found is not None
        assert set(found.machines) == {node.name for node in self.nodes}
        return found

    async def ring(self, parts: Sequence[tuple[str, int, int]]) -> None:
        """Have a ring of these nodes with layers [first, last) each, in this order."""
        self._next = list(parts)
        [ring] = self.gateway.conductor.rings
        before = ring.plan.epoch if ring.plan else None
        ring.rearrange()
        deadline_s = time.monotonic() + READY_S
        while not (ring.driver and ring.plan and ring.plan.epoch != before):
            if time.monotonic() > deadline_s:
                raise RuntimeError(f"no ring: {ring.reason}")
            await asyncio.sleep(POLL_S)

    async def cast(
        self, free: Sequence[Member], times: Times | None, *, rings_max: int, fewer: bool = False
    ) -> tuple[Cast, ...]:
        """In the caster's place: who was chosen, each dialled through its proxy."""
        del free, times, rings_max, fewer
        conductor, before, members = self.gateway.conductor, "", []
        if gone := [name for name, _, _ in self._next if name not in self.members]:
            raise RingDown(f"{', '.join(gone)} left")
        for name, _, _ in self._next:
            member = self.members[name]
            place = HostPort(LOOPBACK, self.port(before, name))
            member.join = msgspec.structs.replace(member.join, address=Address(tls=place))
            members.append(member)
            before = name
        assert conductor._reach is not None
        conductor._reach = dataclasses.replace(conductor._reach, link_port=self.port(before, ""))
        entries = await conductor._caster._book.entries([(a, b) for _, a, b in self._next])
        return (Cast(tuple(members), entries),)

    async def token_s(self, tokens: int, rounds: int) -> float:
        """Median over rounds of the mean time from token to token of a lone stream."""
        found = []
        for _ in range(rounds):
            request = GenerateRequest(
                PROMPT, tokens, SamplingParams(temperature=0.0), ignore_eos=True
            )
            arrivals = [time.perf_counter() async for _ in self.gateway.conductor.generate(request)]
            found.append((arrivals[-1] - arrivals[0]) / (len(arrivals) - 1))
        return sorted(found)[len(found) // 2]


def placed(parts: Sequence[tuple[str, int, int]], names: Sequence[str], ends: int) -> list[Placed]:
    """The same ring in a plan's terms; layers are counted from the gateway's ends."""
    return [Placed(names.index(name), a - ends, b - ends) for name, a, b in parts]


@contextlib.asynccontextmanager
async def open_lab(
    model: FoundModel,
    store: Store,
    folder: FilePath,
    nodes: Sequence[LabNode],
    ring: RingOptions,
    *,
    by_hand: bool = True,
) -> AsyncIterator[Lab]:
    """A lab whose nodes are in and whose ring serves.

    `by_hand`: the first ring is of all of them in equal parts, the next ones are those
    that `Lab.ring` is told; otherwise they are the gateway's own.
    """
    serve = ServeOptions(ring, folder / "join", port=0, way="tls", auth=False)
    home = folder / "gateway"
    async with contextlib.AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(
            open_gateway(model, store, home, serve, tell=lambda _line: None)
        )
        own = {node.name: _free_port() for node in nodes} | {"": gateway.addresses[0].port}
        delays_s = {node.name: node.delay_s for node in nodes} | {"": 0.0}
        lab = Lab(gateway, nodes, {}, own, delays_s)
        await _open_proxies(stack, lab)
        caster, register = gateway.conductor._caster, Register(home / REGISTER_FILE)
        inner = range(ring.ends, model_layers(gateway) - ring.ends)
        share = -(-len(inner) // len(nodes))
        lab._next = [
            (node.name, inner.start + i * share, min(inner.start + (i + 1) * share, inner.stop))
            for i, node in enumerate(nodes)
        ]
        if by_hand:
            caster.cast = lab.cast  # type: ignore[method-assign]
            caster.better = _never_better  # type: ignore[method-assign]
        for node in nodes:
            invitation, secret = register.invite("lab", uses=1, lifetime_s=600)
            address = HostPort(LOOPBACK, lab.ports["", node.name + "/control"])
            ticket = Ticket(gateway.key, (address,), secret, invitation.expires)
            arguments = ["join", ticket.text(), "--name", node.name, "--link", "tls"]
            arguments += ["--home", str(folder / node.name), "--store", str(store.home)]
            arguments += ["--model", str(model.path), "--threads", "1", "--threads-large", "1"]
            arguments += ["--host", LOOPBACK, "--port", str(own[node.name]), "--gpu", "none"]
            program = await stack.enter_async_context(started(node.name, arguments, folder))
            if node.share < 1:
                await stack.enter_async_context(_slowed(program.pid, node.share))
        deadline_s = time.monotonic() + READY_S
        while len(lab.members) < len(nodes) or not gateway.conductor.health().ready:
            if time.monotonic() > deadline_s:
                raise RuntimeError(f"no ring: {gateway.conductor.health().reason}")
            await asyncio.sleep(POLL_S)
        yield lab


async def _never_better(*_args: object, **_more: object) -> tuple[float, tuple[Cast, ...]]:
    return 0.0, ()


def model_layers(gateway: Gateway) -> int:
    """Layers of the model that is served."""
    return gateway.status().n_layers


async def _open_proxies(stack: contextlib.AsyncExitStack, lab: Lab) -> None:
    """One on each way: gateway to node and back, node to node, and for each control link."""

    async def proxy(source: str, target: str) -> int:
        path = partial(_path, lab, source, target)
        return await stack.enter_async_context(slow_tcp(lab.own_ports[target], path))

    for node in lab.nodes:
        lab.ports["", node.name] = await proxy("", node.name)
        lab.ports[node.name, ""] = await proxy(node.name, "")
        lab.ports["", node.name + "/control"] = await proxy(node.name, "")
        for other in lab.nodes:
            if other is not node:
                lab.ports[node.name, other.name] = await proxy(node.name, other.name)


def _path(lab: Lab, source: str, target: str) -> Path:
    """The way as it is now."""
    return Path(delay_s=lab.way_s(source, target))


@contextlib.asynccontextmanager
async def _slowed(pid: int, share: float) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.slowed", str(pid), str(share)
    )
    try:
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind((LOOPBACK, 0))
        return int(sock.getsockname()[1])
