"""A node driven by hand before a real gateway: every message is the test's own.

The gateway is the whole of `open_gateway`; the test holds the node's key and
is the only stage of its ring. It hands windows back as they came, so that the
model has no middle, or makes of them what it likes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from tests.support.hand_gateway import WAIT_S, Heard, at

from atoll import __version__
from atoll.domain.bulk import BulkMessage
from atoll.domain.control import (
    ControlMessage,
    Echo,
    EchoBack,
    Join,
    Plan,
    PlanNotice,
    Ready,
    Welcome,
)
from atoll.domain.errors import LinkFault
from atoll.domain.generation import GenerateRequest, Sampled, SamplingParams
from atoll.domain.ids import NodeId
from atoll.domain.wire import Cancel, Grant, Release, Window
from atoll.engine.library import ENGINE_BUILD
from atoll.gateway.options import RingOptions, ServeOptions
from atoll.gateway.serve import Gateway, open_gateway
from atoll.net.identity import Identity
from atoll.net.link import ControlLink, DataLimits, DataLink, Kind
from atoll.net.listener import Listener, Takers, listen
from atoll.net.ticket import Ticket
from atoll.net.tls import dial_control, dial_data
from atoll.store.layout import FoundModel, Store


def a_join(secret: str, port: int, **changes: Any) -> Join:
    join = Join(secret, "hand", at(port), "host", ENGINE_BUILD, 1 << 30, __version__)
    return msgspec.structs.replace(join, **changes)


@dataclass
class HandNode:
    """The test's end of everything."""

    identity: Identity
    listener: Listener
    datas: asyncio.Queue[DataLink]
    gateway: NodeId = field(default=NodeId(""))
    control: ControlLink = field(init=False)
    heard: Heard = field(init=False)
    plan: Plan = field(init=False)
    up: DataLink = field(init=False)
    up_heard: Heard = field(init=False)
    down: DataLink = field(init=False)
    down_heard: Heard = field(init=False)

    async def dial(self, ticket: Ticket) -> None:
        self.gateway = ticket.gateway
        [address] = ticket.addresses
        self.control = await dial_control(
            address.host, address.port, expected=ticket.gateway, identity=self.identity
        )
        self.heard = _Answering(self.control)
        self.control.start(self.heard)

    async def join(self, path: Path, **changes: Any) -> None:
        ticket = Ticket.load(path)
        await self.dial(ticket)
        self.control.send(a_join(ticket.secret, self.listener.port, **changes))

    async def link_up(self) -> None:
        """Take the plan, and link both sides."""
        notice = await self.heard.next_message(PlanNotice)
        self.plan = msgspec.msgpack.decode(notice.plan, type=Plan)
        limits = DataLimits(self.plan.n_embd, self.plan.rows_max)
        self.down = await self.dial_down()
        self.down_heard = Heard()
        self.down.start(self.down_heard, limits)
        async with asyncio.timeout(WAIT_S):
            self.up = await self.datas.get()
        self.up_heard = Heard()
        self.up.start(self.up_heard, limits)

    async def dial_down(self, identity: Identity | None = None) -> DataLink:
        tls = self.plan.gateway_address.tls
        assert tls is not None
        return await dial_data(
            tls.host,
            tls.port,
            expected=self.plan.gateway,
            identity=identity or self.identity,
        )

    def ready(self) -> None:
        self.control.send(Ready(self.plan.epoch, 1, 1, 0.1, "CUDA0 (Great GPU)"))

    async def form(self, path: Path) -> None:
        await self.join(path)
        await self.heard.next_message(Welcome)
        await self.link_up()
        self.ready()

    async def window(self) -> tuple[Window, bytes]:
        return await self.up_heard.next(Window)

    async def pass_on(self) -> Window | Cancel | Release:
        """Take the next frame and hand it on as it came."""
        async with asyncio.timeout(WAIT_S):
            while True:
                message, payload = await self.up_heard.messages.get()
                if isinstance(message, Window):
                    self.up.send(Grant(1))
                if isinstance(message, Window | Cancel | Release):
                    self.down.send(message, payload)
                    return message

    async def serve(self) -> None:
        """Pass everything on until cancelled."""
        while True:
            message, payload = await self.up_heard.messages.get()
            if isinstance(message, Window):
                self.up.send(Grant(1))
            if isinstance(message, Window | Cancel | Release):
                self.down.send(message, payload)


class _Answering(Heard):
    """Sends echoes back, as every node does; the test hears the rest."""

    def __init__(self, control: ControlLink) -> None:
        super().__init__()
        self._control = control

    def on_message(self, message: ControlMessage | BulkMessage) -> None:
        if isinstance(message, Echo):
            self._control.send(EchoBack(message.number))
        else:
            super().on_message(message)


@asynccontextmanager
async def open_hand_node() -> AsyncIterator[HandNode]:
    """A node that has not joined yet."""
    identity = Identity.generate()
    datas: asyncio.Queue[DataLink] = asyncio.Queue()

    def authorise(peer: NodeId, kind: Kind) -> None:
        if peer != node.gateway:
            raise LinkFault(f"{kind} link of a stranger")

    async with listen(
        "127.0.0.1", 0, identity=identity, takers=Takers(authorise, on_data=datas.put_nowait)
    ) as listener:
        node = HandNode(identity, listener, datas)
        try:
            yield node
        finally:
            for name in ("up", "down", "control"):
                if hasattr(node, name):
                    getattr(node, name).close()
                    await getattr(node, name).wait_closed()


@dataclass
class Asked:
    """A generation that runs beside the test."""

    tokens: list[int] = field(default_factory=list)
    error: BaseException | None = None

    async def run(self, gateway: Gateway, n: int, prompt: tuple[int, ...] = (5, 6)) -> None:
        request = GenerateRequest(prompt, n, SamplingParams(temperature=0.0), ignore_eos=True)
        try:
            async for sampled in gateway.conductor.generate(request):
                self.take(sampled)
        except Exception as error:  # noqa: BLE001 - the test looks at it
            self.error = error

    def take(self, sampled: Sampled) -> None:
        self.tokens.append(sampled.token)


@asynccontextmanager
async def open_small_gateway(
    model: FoundModel, store: Store, folder: Path, said: list[str], **options: Any
) -> AsyncIterator[Gateway]:
    """A gateway whose ring has one place, for a node driven by hand."""
    shape: dict[str, Any] = {"nodes": 1, "streams": 3, "context": 128, "rows_max": 64}
    ring = RingOptions(**(shape | {"chunk_rows": 64, "spin": 1000, "outage_s": 0.0} | options))
    serve = ServeOptions(ring, folder / "join", port=0)
    async with open_gateway(model, store, folder / "gateway", serve, tell=said.append) as gateway:
        yield gateway
