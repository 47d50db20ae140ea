"""A gateway driven by hand before one real node: every message is the test's own.

The node runs in the test's process with a real stage process; the test holds
the gateway's key, which is upstream, downstream and commander of the node.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
import numpy as np

from atoll.domain.address import Address, HostPort
from atoll.domain.bulk import BulkMessage
from atoll.domain.control import (
    ControlMessage,
    Join,
    Plan,
    PlanNotice,
    Ready,
    StagePlan,
    Welcome,
    plan_signed_part,
)
from atoll.domain.errors import LinkFault
from atoll.domain.ids import Epoch, NodeId, SessionId, ShardId, Slot
from atoll.domain.wire import F32, DataMessage, Grant, Order, Refused, Release, Window, signed_part
from atoll.model.manifest import make_manifest
from atoll.net.identity import Identity
from atoll.net.link import ControlLink, DataLimits, DataLink, LinkSettings, UnusableFrame
from atoll.net.listener import Listener, Takers, listen
from atoll.net.tls import dial_data
from atoll.node.daemon import NodeDaemon
from atoll.node.keeping import Keeping
from atoll.node.membership import Membership
from atoll.node.options import NodeOptions
from atoll.node.probe_cache import ProbeCache
from atoll.store.layout import FoundModel, Store

N_EMBD = 64
FIRST, LAST = 1, 5
N_SLOTS = 4
CONTEXT = 128
ROWS_MAX = 32
SECRET = "s" * 43
WAIT_S = 6.0

Message = TypeVar("Message")


class Heard:
    """A handler of either kind of link that keeps all it is told."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[tuple[Any, bytes]] = asyncio.Queue()
        self.ended: asyncio.Future[LinkFault | None] = asyncio.get_running_loop().create_future()

    def on_frame(self, message: DataMessage, payload: bytes) -> None:
        self.messages.put_nowait((message, payload))

    def on_message(self, message: ControlMessage | BulkMessage) -> None:
        self.messages.put_nowait((message, b""))

    def on_unusable(self, fault: UnusableFrame) -> None:
        raise fault

    def on_batch_end(self) -> None:
        pass

    def on_closed(self, reason: LinkFault | None) -> None:
        if not self.ended.done():
            self.ended.set_result(reason)

    async def next(self, kind: type[Message]) -> tuple[Message, bytes]:
        """The next message of this kind; others are passed over."""
        async with asyncio.timeout(WAIT_S):
            while True:
                message, payload = await self.messages.get()
                if isinstance(message, kind):
                    return message, payload

    async def next_message(self, kind: type[Message]) -> Message:
        return (await self.next(kind))[0]

    async def wait_ended(self) -> LinkFault | None:
        async with asyncio.timeout(WAIT_S):
            return await asyncio.shield(self.ended)


@dataclass
class HandGateway:
    """The test's end of everything."""

    identity: Identity
    listener: Listener
    node: Identity
    model: FoundModel
    said: list[str]
    running: asyncio.Task[None]
    controls: asyncio.Queue[ControlLink]
    datas: asyncio.Queue[DataLink]
    control: ControlLink = field(init=False)
    heard: Heard = field(init=False)
    joined: Join = field(init=False)
    up: DataLink = field(init=False)
    up_heard: Heard = field(init=False)
    down: DataLink = field(init=False)
    down_heard: Heard = field(init=False)
    epoch: Epoch = field(default=Epoch(1, 1))

    @property
    def data_port(self) -> int:
        """Where the node can be dialled."""
        assert self.joined.address.tls is not None
        return self.joined.address.tls.port

    async def welcome(self) -> None:
        async with asyncio.timeout(WAIT_S):
            self.control = await self.controls.get()
        self.heard = Heard()
        self.control.start(self.heard)
        self.joined = await self.heard.next_message(Join)
        self.control.send(Welcome(self.joined.name))

    def plan(self, **changes: Any) -> Plan:
        [entry] = make_manifest(self.model.path, self.model.model, ((FIRST, LAST),)).shards
        stage = self.stage(entry.shard)
        plan = Plan(
            epoch=self.epoch,
            model=self.model.model,
            architecture="llama",
            n_layers=6,
            n_embd=N_EMBD,
            n_slots=N_SLOTS,
            context=CONTEXT,
            rows_max=ROWS_MAX,
            gateway=self.identity.node_id,
            gateway_address=at(self.listener.port),
            stages=(stage,),
        )
        return msgspec.structs.replace(plan, **changes)

    def stage(self, shard: ShardId, node: NodeId | None = None) -> StagePlan:
        return StagePlan(
            node=node or self.node.node_id,
            name="node",
            first=FIRST,
            last=LAST,
            shard=shard,
            address=self.joined.address,
        )

    def announce(self, plan: Plan, signer: Identity | None = None) -> None:
        encoded = msgspec.msgpack.encode(plan)
        signature = (signer or self.identity).sign(plan_signed_part(encoded))
        self.control.send(PlanNotice(encoded, signature))

    async def dial(self, identity: Identity | None = None) -> DataLink:
        """A data link to the node as its upstream, or as somebody else."""
        return await dial_data(
            "127.0.0.1",
            self.data_port,
            expected=self.node.node_id,
            identity=identity or self.identity,
        )

    async def link_up(self) -> None:
        """Take the node's downstream link, and dial its upstream side."""
        async with asyncio.timeout(WAIT_S):
            self.down = await self.datas.get()
        self.down_heard = Heard()
        self.down.start(self.down_heard, LIMITS)
        self.up = await self.dial()
        self.up_heard = Heard()
        self.up.start(self.up_heard, LIMITS)

    async def form(self, **changes: Any) -> Ready:
        """Plan, link, and wait until the stage is ready."""
        self.announce(self.plan(**changes))
        await self.link_up()
        return await self.heard.next_message(Ready)

    def signed(self, order: Order, signer: Identity | None = None) -> Order:
        signature = (signer or self.identity).sign(signed_part(order))
        return msgspec.structs.replace(order, signature=signature)

    def window(self, session: int, slot: int, seq: int, keep: int, **changes: Any) -> Window:
        window = Window(SessionId(session), Slot(slot), self.epoch, seq, keep, 1, F32, exact=True)
        return msgspec.structs.replace(window, **changes)

    def release(self, session: int, slot: int) -> None:
        self.up.send(self.signed(Release(SessionId(session), Slot(slot), self.epoch)))

    async def computed(self, session: int, slot: int, seq: int, keep: int) -> bytes:
        """Send one row of this session and return what the stage made of it."""
        self.up.send(self.window(session, slot, seq, keep), row_at(keep))
        window, payload = await self.down_heard.next(Window)
        assert (window.session, window.seq, window.keep) == (session, seq, keep)
        self.down.send(Grant(1))
        return payload

    async def refusal(self) -> Refused:
        return await self.up_heard.next_message(Refused)


def at(port: int) -> Address:
    """A TCP port of this machine."""
    return Address(tls=HostPort("127.0.0.1", port))


LIMITS = DataLimits(N_EMBD, ROWS_MAX)


def row_at(position: int) -> bytes:
    """A row of hidden states, always the same at a position."""
    rng = np.random.default_rng(position)
    return rng.standard_normal(N_EMBD).astype("<f4").tobytes()


@asynccontextmanager
async def open_hand_gateway(
    model: FoundModel,
    store: Store,
    *,
    settings: LinkSettings | None = None,
    path: str = "",
    cache_bytes_max: int | None = None,
    probes: ProbeCache | None = None,
    keeping: Keeping | None = None,
) -> AsyncIterator[HandGateway]:
    """A node that has joined; its plan is the test's to give."""
    identity, node = Identity.generate(), Identity.generate()
    controls: asyncio.Queue[ControlLink] = asyncio.Queue()
    datas: asyncio.Queue[DataLink] = asyncio.Queue()
    said: list[str] = []
    options = NodeOptions(
        *("node", path or str(model.path)),
        threads=1,
        threads_large=1,
        spin=1000,
        cache_bytes_max=cache_bytes_max,
        keeping=keeping or Keeping(),
    )
    daemon = NodeDaemon(*(node, store, options), tell=said.append, settings=settings, probes=probes)
    running: asyncio.Task[None] | None = None
    async with listen(
        "127.0.0.1",
        0,
        identity=identity,
        takers=Takers(
            lambda _peer, _kind: None, on_control=controls.put_nowait, on_data=datas.put_nowait
        ),
        settings=settings,
    ) as listener:
        membership = Membership(identity.node_id, (HostPort("127.0.0.1", listener.port),), SECRET)
        running = asyncio.get_running_loop().create_task(daemon.run(membership), name="node")
        hand = HandGateway(identity, listener, node, model, said, running, controls, datas)
        try:
            await hand.welcome()
            yield hand
        finally:
            running.cancel()
            await asyncio.wait([running], timeout=WAIT_S)
            for name in ("up", "down", "control"):
                if hasattr(hand, name):
                    getattr(hand, name).close()
                    await getattr(hand, name).wait_closed()
