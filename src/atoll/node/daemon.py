"""The node: joins a gateway, hosts the stage that the plan gives it, and reports.

Every wait has a limit and every failure an owner: what goes wrong with a stage
is told to the gateway, what goes wrong with the gateway ends the node.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from atoll.domain.address import HostPort
from atoll.domain.control import (
    ControlMessage,
    Echo,
    EchoBack,
    Fetching,
    Join,
    Leave,
    Lend,
    Plan,
    PlanNotice,
    Prefetch,
    Ready,
    StageFailed,
    StagePlan,
    StandBy,
    Welcome,
)
from atoll.domain.errors import AtollError, EngineFault, LinkFault
from atoll.domain.ids import Epoch, NodeId
from atoll.domain.lent_memory import MemoryGone, MemoryHere
from atoll.domain.measure import Measure
from atoll.domain.timing import TimePeer
from atoll.engine.threads import shorten_slices
from atoll.net.identity import Identity
from atoll.net.link import (
    BULK,
    CONTROL,
    TIMING,
    BulkLink,
    ControlInbox,
    ControlLink,
    DataLink,
    Kind,
    LinkSettings,
)
from atoll.net.listener import Takers
from atoll.net.ticket import relay_token
from atoll.net.transport import Transport
from atoll.node.dial import (
    dial_gateway,
    dial_gateway_bulk,
    gateway_place,
    is_here,
    way_for,
)
from atoll.node.hearing import hear_gateway, protest
from atoll.node.introduction import introduction, own_address
from atoll.node.lends import Lends
from atoll.node.measurer import Measurer
from atoll.node.membership import Membership
from atoll.node.options import NodeOptions
from atoll.node.peer_timer import PeerTimer
from atoll.node.plan_notice import checked_plan, checked_stand_by
from atoll.node.prefetcher import Prefetcher
from atoll.node.probe_cache import ProbeCache
from atoll.node.remote_keeper import RemoteKeeper
from atoll.node.shard_seeker import holders_of, wanted_of
from atoll.node.stage_engine import StageEngine
from atoll.node.stage_host import StageHost, place_in
from atoll.node.standbys import Standbys
from atoll.node.workshop import Workshop
from atoll.store.layout import Store
from atoll.transfer.lender import open_lender

log = logging.getLogger(__name__)

REPORT_S = 1.0
TELL_FETCH_S = 5.0
LOOPBACK = "127.0.0.1"
ANYWHERE = "0.0.0.0"  # noqa: S104 - neighbours on other machines are to reach it

Notice = Callable[[str], None]


class NodeDaemon:
    """One node's life, from joining to leaving.

    Args:
        identity: The node's key.
        store: Where models and shards lie.
        options: What the owner chose.
        tell: Takes one line at a time for the owner to read.
        welcomed: Called when the gateway has let us in.
        settings: Times of the links.
        probes: What this machine measured before; None: nothing is kept.
        workshop: What its stages are made with; None: as on any machine.
    """

    def __init__(
        self,
        identity: Identity,
        store: Store,
        options: NodeOptions,
        *,
        tell: Notice,
        welcomed: Callable[[], None] = lambda: None,
        settings: LinkSettings | None = None,
        probes: ProbeCache | None = None,
        workshop: Workshop | None = None,
    ) -> None:
        self._identity = identity
        self._store = store
        self._options = options
        self._tell = tell
        self._welcomed = welcomed
        self._settings = settings or LinkSettings()
        self._workshop = workshop or Workshop()
        self._gateway = NodeId("")
        self._gateway_udp_port = 0
        self._epoch: Epoch | None = None
        self._plans: asyncio.Queue[Plan | None] = asyncio.Queue(maxsize=1)
        self._stage: StageHost | None = None
        self._link: ControlLink | None = None
        self._transport: Transport | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._dial_lender: Callable[[], Awaitable[BulkLink]]
        self._lends = Lends(store)
        self._told_fetch_s = 0.0
        self._probes = probes
        self._measurer: Measurer
        self._prefetcher: Prefetcher
        self._standbys: Standbys
        self._peers: PeerTimer
        self._remote = RemoteKeeper()

    async def run(self, membership: Membership) -> None:
        """Join, serve, and return when the gateway says goodbye.

        Raises:
            AtollError: The node was refused, or lost its gateway.
        """
        await self._workshop.check_engine(self._options.gpu)
        if self._options.spin is not None:
            shorten_slices()
        self._gateway, self._gateway_udp_port = membership.gateway, membership.udp_port
        async with (
            open_lender(self._lends.open) as lender,
            self._workshop.open_transport(
                self._identity,
                way=way_for(membership, self._options.way),
                host=LOOPBACK if is_here(membership) else ANYWHERE,
                relays=[membership.relay] if membership.relay else [],
                relay_token=relay_token(membership.secret),
                settings=self._settings,
            ) as transport,
        ):
            self._transport = transport
            self._dial_lender = lambda: dial_gateway_bulk(membership, transport)
            self._measurer = Measurer(
                *(self._store, self._options, self._probes),
                dial_lender=self._dial_lender,
                send=self._send,
                serving=lambda: self._stage is not None,
                workshop=self._workshop,
            )
            self._prefetcher = Prefetcher(
                *(self._store, self._options),
                holders=lambda sources: holders_of(sources, transport, self._dial_lender),
                send=self._send,
                tell=self._tell,
            )
            self._standbys = Standbys(self._engine_of, self._send)
            self._peers = PeerTimer(transport, send=self._send)
            self._remote.open(transport)
            link = await dial_gateway(membership, transport)
            self._link = link
            try:
                async with transport.listen(
                    self._options.host or link.local_host or LOOPBACK,
                    self._options.port,
                    Takers(
                        self._authorise,
                        on_data=self._on_data,
                        on_bulk=lender.on_bulk,
                        on_timing=self._peers.on_timing,
                    ),
                ) as listener:
                    places = (listener, link, transport, membership.relay)
                    address = own_address(self._options, *places)
                    self._peers.is_hidden = not (address.tls or address.relay)
                    host = self._workshop.host_id()
                    said = introduction(self._options, membership.secret, address, host=host)
                    await self._serve(link, said)
            except LinkFault as fault:
                link.close(fault)
                raise
            finally:
                self._remote.close()
                link.close()

    async def _serve(self, link: ControlLink, introduction: Join) -> None:
        inbox = ControlInbox(link)
        link.send(introduction)
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                background = [
                    tasks.create_task(self._report_often(link), name="report"),
                    tasks.create_task(self._carry_out(), name="carry-out-plans"),
                    tasks.create_task(self._measurer.run(), name="measure"),
                    tasks.create_task(self._prefetcher.run(), name="prefetch-shards"),
                    tasks.create_task(self._peers.run(), name="time-peers"),
                    tasks.create_task(self._standbys.run(), name="stand-by"),
                ]
                try:
                    await hear_gateway(inbox, self._obey)
                except asyncio.CancelledError:
                    # Said before the neighbours notice: they would be blamed for it.
                    link.send(Leave("it was stopped"))
                    raise
                for task in background:
                    task.cancel()
        except* AtollError as group:
            raise group.exceptions[0] from None

    def _obey(self, message: ControlMessage) -> bool:
        """Act on one message of the gateway; False: it was the last."""
        match message:
            case Welcome(name, outside):
                self._welcomed()
                self._note_outside(outside)
                self._tell(f"joined as {name}; waiting for the ring to be complete")
            case PlanNotice():
                plan = self._checked_plan(message)
                self._epoch = plan.epoch
                self._prefetcher.stop()
                self._follow(plan)
            case StandBy():
                self._stand_by(message)
            case Echo(number):
                self._send(EchoBack(number))
            case Lend():
                self._lends.note(message)
            case Prefetch():
                self._prefetcher.ask(message)
            case Measure():
                self._measurer.ask(message)
            case TimePeer():
                self._peers.ask(message)
            case MemoryHere() | MemoryGone():
                self._remote.note(message)
            case Leave(reason):
                self._tell(f"the gateway said goodbye: {reason}")
                return False
            case _:
                raise protest(message)
        return True

    def _note_outside(self, outside: str) -> None:
        """The gateway tells where it sees our UDP port: with that, others get through to it."""
        endpoint = self._transport.endpoint if self._transport is not None else None
        if endpoint is not None and outside and self._tasks is not None:
            place = HostPort.parse(outside)
            self._tasks.create_task(endpoint.add_outside_address(place), name="outside-address")

    def _checked_plan(self, notice: PlanNotice) -> Plan:
        """The plan, with the gateway where it can be dialled from here."""
        plan = checked_plan(notice, self._gateway, self._epoch)
        assert self._link is not None
        place = gateway_place(plan.gateway_address, self._link, self._gateway_udp_port)
        return replace(plan, gateway_address=place)

    def _stand_by(self, order: StandBy) -> None:
        """Have stages of others loaded; a node that is asked has no part of its own (any more)."""
        asked = checked_stand_by(order, self._gateway)
        self._follow(None)
        self._standbys.ask(*asked)

    def _follow(self, plan: Plan | None) -> None:
        while self._plans.full():  # only the newest counts
            self._plans.get_nowait()
        self._plans.put_nowait(plan)

    def _engine_of(self, plan: Plan, stage: StagePlan) -> StageEngine:
        """An engine for a stage, not loaded; what it fetches is told."""
        assert self._transport is not None

        def fetched(here_bytes: int, size_bytes: int) -> None:
            if self._stage is not None and self._stage.engine is engine:
                self._stage.fetching = Fetching(plan.epoch, here_bytes, size_bytes)

        seeker = self._workshop.seeker(
            *(wanted_of(plan, stage), self._store, self._options),
            holders=holders_of(stage.sources, self._transport, self._dial_lender),
            progress=fetched,
        )
        return (engine := StageEngine(plan, stage, self._options, seeker, self._workshop))

    async def _carry_out(self) -> None:
        """Host the stage of the newest plan, whatever becomes of the older ones."""
        plan = await self._plans.get()
        while True:
            async with asyncio.TaskGroup() as tasks:
                hosting = tasks.create_task(self._host(plan), name="host-stage")
                plan = await self._plans.get()
                while plan is not None and self._stage is not None and self._stage.can_move(plan):
                    self._stage.move(plan)
                    plan = await self._plans.get()
                self._stage = None
                hosting.cancel()

    async def _host(self, plan: Plan | None) -> None:
        """Serve a plan, and those that the stage can move on to, until it fails."""
        if plan is None:
            return
        told: Epoch | None = None

        def failed(error: AtollError) -> None:
            nonlocal told
            epoch = self._epoch or plan.epoch
            if told != epoch:
                told = epoch
                self._tell(f"the stage failed: {error}")
                # Hints may name folders, which are the owner's business.
                self._send(StageFailed(epoch, error.problem))

        try:
            assert self._transport is not None
            mine = plan.stages[place_in(plan, self._identity.node_id)]
            if mine.goes_on:
                raise EngineFault("nothing of the stage is left to go on with")
            stage = StageHost(
                plan,
                self._transport,
                self._options,
                self._standbys.take(plan, mine) or self._engine_of(plan, mine),
                report=self._send,
                died=failed,
                further=(self._remote,),
            )
            self._stage = stage

            def ready(message: Ready) -> None:
                part = f"layers {mine.first} to {mine.last - 1} on {message.device}"
                self._tell(f"serving {part}, loaded in {message.load_s:.1f} s")
                self._prefetcher.release()
                self._send(message)

            await stage.run(ready)
        except AtollError as error:
            failed(error)
        finally:
            self._stage = None

    def _send(self, message: ControlMessage) -> None:
        if self._link is not None:
            self._link.send(message)

    async def _report_often(self, link: ControlLink) -> None:
        while True:
            await asyncio.sleep(REPORT_S)
            stage = self._stage
            if stage is None:
                continue
            if stage.is_ready:
                link.send(stage.report())
                self._measurer.watch(stage)
            elif stage.fetching is not None:
                link.send(stage.fetching)
                self._tell_fetch(stage.fetching)

    def _tell_fetch(self, fetching: Fetching) -> None:
        """Tell the owner now and then how far the shard has come."""
        now_s = time.monotonic()
        if now_s - self._told_fetch_s >= TELL_FETCH_S:
            self._told_fetch_s = now_s
            here, size = fetching.here_bytes >> 20, fetching.size_bytes >> 20
            self._tell(f"fetching the layers of this node: {here} of {size} MiB")

    def _authorise(self, peer: NodeId, kind: Kind) -> None:
        """Only the neighbour that the plan names may send windows."""
        if kind in (BULK, TIMING):
            (self._lends if kind == BULK else self._peers).authorise(peer)
            return
        if kind == CONTROL:
            raise LinkFault("a node takes no commands from others")
        if self._stage is None or peer != self._stage.upstream:
            raise LinkFault("the plan names another neighbour", hint="try again shortly")

    def _on_data(self, link: DataLink) -> None:
        if self._stage is None or link.peer != self._stage.upstream:
            link.close(LinkFault("the plan has changed"))
            return
        self._stage.take_upstream(link)
