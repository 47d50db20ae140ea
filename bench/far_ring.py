"""A ring of the product's own programs whose links take as long as they are told.

Every link, the control links too, leads through one proxy (`delays`); with no delay the
links of the ring lead past them, as the proxies themselves take time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from atoll.client.api import ApiClient
from atoll.client.endpoint import Endpoint
from atoll.demo.local_ring import model_argument
from atoll.demo.programs import started
from atoll.gateway.options import RingOptions
from atoll.gateway.status import GatewayStatus
from atoll.store.layout import FoundModel, Store
from bench.children import Child, open_child
from bench.delays import Delays, open_delays
from bench.far_gateway import Setting
from bench.slow_net import LOOPBACK

NODES = 3
PORTS = range(16_000, 32_000)
"""Below those that systems give to outgoing connections."""
LINKS = NODES + 1
"""Of one lap: gateway, three nodes, gateway."""

NONE, LOOKUP, DRAFT = "none", "lookup", "draft"
"""Ways to decode: without guesses, with prompt lookup, and with a draft model as well."""


@dataclass(frozen=True, slots=True)
class RingShape:
    """What is chosen for a ring."""

    streams: int
    context: int
    threads: int = 1


class FarRing:
    """A ring that is up."""

    def __init__(self, gateway: Child, delays: Delays, ports: dict[str, int], link: int) -> None:
        self._gateway = gateway
        self.delays = delays
        self._ports = ports
        self._link = link
        self._delay_s = 0.0
        self.model: str = gateway.place["model"]
        self.endpoint = Endpoint(gateway.place["url"])

    async def set_delay(self, delay_s: float) -> None:
        """Have a ring whose links take so long, each way; it is formed anew."""
        if delay_s == self._delay_s:
            return
        await self.delays.set(delay_s)
        ways = self.delays.ways if delay_s else {}
        self._gateway.tell(
            nodes={name: ways.get(port, port) for name, port in self._ports.items()},
            gateway=ways.get(self._link, self._link),
        )
        await self._gateway.hear()
        self._delay_s = delay_s

    async def status(self) -> GatewayStatus:
        """The gateway's status."""
        async with ApiClient(self.endpoint) as client:
            return await client.status()


def known_modes() -> tuple[str, ...]:
    """The ways to decode that the product has."""
    options = {field.name for field in dataclasses.fields(RingOptions)}
    if "speculate" not in options:
        return (NONE,)
    return (NONE, LOOKUP, DRAFT) if "draft" in options else (NONE, LOOKUP)


def mode_options(mode: str, draft: Path | None) -> dict[str, Any]:
    """The ring's options that make it decode so."""
    if known_modes() == (NONE,):
        return {}
    options: dict[str, Any] = {"speculate": NONE if mode == NONE else LOOKUP}
    if mode == DRAFT:
        assert draft is not None
        options["draft"] = str(draft)
    return options


@contextlib.asynccontextmanager
async def open_far_ring(
    model: FoundModel, store: Store, folder: Path, shape: RingShape, more: dict[str, Any]
) -> AsyncIterator[FarRing]:
    """A ring of three nodes and a gateway, each a process of its own, without delay at first."""
    ports = {f"node-{number}": free_port() for number in range(1, NODES + 1)}
    link = free_port()
    named = model_argument(model, store)
    async with contextlib.AsyncExitStack() as stack:
        delays = await stack.enter_async_context(open_delays([*ports.values(), link]))
        setting = Setting(
            *(named, str(store.home), str(folder / "gateway")),
            *(NODES, shape.streams, shape.context, shape.threads),
            *(link, delays.ways[link]),
            more,
        )
        text = msgspec.json.encode(setting).decode()
        gateway = await stack.enter_async_context(
            open_child("bench.far_gateway", text, hidden=False)
        )
        for (name, port), file in zip(ports.items(), gateway.place["join_files"], strict=True):
            arguments = ["join", file, "--model", named, "--name", name, "--link", "tls"]
            arguments += ["--home", str(folder / name), "--store", str(store.home)]
            arguments += ["--threads", str(shape.threads), "--threads-large", str(shape.threads)]
            arguments += ["--share-cores", "--gpu", "none"]
            arguments += ["--host", LOOPBACK, "--port", str(port)]
            await stack.enter_async_context(started(name, arguments, folder))
        await gateway.hear()
        yield FarRing(gateway, delays, ports, link)


def free_port() -> int:
    """A port of the loopback that nobody has now, and that no connection is given by chance."""
    while True:
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind((LOOPBACK, secrets.choice(PORTS)))
            return int(sock.getsockname()[1])
