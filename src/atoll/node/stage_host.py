"""One stage on this node: its engine and its links, from plan to plan."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import NoReturn

import psutil

from atoll.domain.control import (
    Fetching,
    Plan,
    Ready,
    SessionFailed,
    StagePlan,
    StageReport,
    StageUnlinked,
)
from atoll.domain.errors import AtollError, EngineFault, LinkFault, ProtocolFault
from atoll.domain.ids import ModelId, NodeId
from atoll.engine.stage_messages import Loaded
from atoll.net.link import DataLink
from atoll.net.transport import Transport
from atoll.node.keeping import Keeper, open_tiers
from atoll.node.options import NodeOptions
from atoll.node.parcels import Parcels, parcel_label
from atoll.node.probe_drift import Work
from atoll.node.stage_driver import StageDriver
from atoll.node.stage_engine import StageEngine, part_of

log = logging.getLogger(__name__)

LINK_S = 30.0
"""How long the neighbours may take to be ready for each other."""
REDIAL_S = 0.1
PUNCH_AGAIN_S = 5.0
"""Routers remember for longer whom a port sent to: Linux for 30 s where no answer came
(`nf_conntrack_udp_timeout`), and RFC 4787 asks for two minutes (REQ-5)."""


class StageHost:
    """Has a stage engine, and joins the two neighbours, from plan to plan.

    Args:
        plan: Its signature and epoch checked by the caller.
        transport: Dials the downstream.
        options: What the owner chose.
        engine: The engine, loaded or not.
        report: Takes failures of single sessions, and of links.
        died: Told at once if the stage process ends by itself, before the links
            close: they are a symptom, and the cause is to be heard first.
        further: What keeps parcels beyond this machine's memory and disk.

    Raises:
        ProtocolFault: The plan is not one that this node can have a part in.
    """

    def __init__(
        self,
        plan: Plan,
        transport: Transport,
        options: NodeOptions,
        engine: StageEngine,
        *,
        report: Callable[[SessionFailed | StageUnlinked], None],
        died: Callable[[AtollError], None],
        further: Sequence[Keeper] = (),
    ) -> None:
        self._plan = plan
        self._transport = transport
        self._died = died
        self._report = report
        self._place = place_in(plan, transport.identity.node_id)
        self._trouble: asyncio.Future[AtollError] = asyncio.get_running_loop().create_future()
        self.engine = engine
        name = f"{plan.epoch.incarnation}-{plan.epoch.counter}"
        self._kept = open_tiers(options.keeping, name, *further)
        label = parcel_label(plan, f"{self.mine.first}-{self.mine.last}")
        self._parcels = Parcels(self._kept.tiers, engine.process.order_parcel, label)
        folder = options.keeping.folder
        try:
            self._driver = StageDriver(
                *(plan, engine.process, self._parcels),
                record=folder / f"sent-{name}" if folder else None,
                report=report,
                unlinked=self._unlinked,
            )
        except ValueError as error:
            raise ProtocolFault(f"the plan's limits do not fit: {error}") from error
        engine.on_computed = self._driver.computed
        engine.on_parcel = self._parcels.answered
        engine.on_exit = self._process_gone
        self._moved = asyncio.Event()
        self.fetching: Fetching | None = None

    @property
    def mine(self) -> StagePlan:
        """This node's part of the plan."""
        return self._plan.stages[self._place]

    @property
    def upstream(self) -> NodeId:
        """Who may send windows to this stage."""
        if self._place == 0:
            return self._plan.gateway
        return self._plan.stages[self._place - 1].node

    @property
    def model(self) -> ModelId:
        """What it is a part of."""
        return self._plan.model

    @property
    def work(self) -> Work:
        """What its steps have taken so far."""
        counters = self._driver.counters
        return Work(counters.steps, counters.step_rows, counters.call_s)

    @property
    def is_ready(self) -> bool:
        """Whether the shard is loaded."""
        return self.engine.loaded is not None

    def can_move(self, plan: Plan) -> bool:
        """Whether the stage of a newer plan can be this one."""
        mine = next((s for s in plan.stages if s.node == self._transport.identity.node_id), None)
        sound = self.is_ready and not self.engine.is_gone and not self._trouble.done()
        if not sound or mine is None or part_of(plan, mine) != self.engine.part:
            return False
        # One that was given up in the midst of a computation may hang: start another.
        return mine.goes_on or not self._driver.is_computing

    def move(self, plan: Plan) -> None:
        """Serve a newer plan from now on; links of the older one are closed."""
        self._plan = plan
        self._place = place_in(plan, self._transport.identity.node_id)
        behind = plan.stages[self._place + 1 : self._place + 2]
        self._driver.move(plan, goes_on=self.mine.goes_on, next_is_new=_is_new(behind))
        self._moved.set()

    async def run(self, on_ready: Callable[[Ready], None]) -> NoReturn:
        """Have the shard, load it, link both neighbours, and serve until it fails.

        Args:
            on_ready: Called when the stage can serve a plan.

        Raises:
            AtollError: Why the stage cannot go on; it is closed already.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._watch(), name="watch-stage")
                tasks.create_task(self._parcels.run(), name="parcels")
                loading = tasks.create_task(self.engine.load(), name="load-shard")
                while True:
                    self._moved.clear()
                    joining = tasks.create_task(self._join(loading, on_ready), name="join-ring")
                    await self._moved.wait()
                    joining.cancel()
        except* AtollError as group:
            raise group.exceptions[0] from None
        finally:
            await self._close()
        raise AssertionError("a stage's watch ended without a reason")

    async def _watch(self) -> NoReturn:
        raise await self._trouble

    async def _join(self, loading: asyncio.Task[Loaded], on_ready: Callable[[Ready], None]) -> None:
        """Link the neighbours of the newest plan, and say so once the shard is loaded too."""
        epoch = self._plan.epoch
        async with asyncio.TaskGroup() as tasks:
            punching = tasks.create_task(self._punch(), name="punch-to-upstream")
            linking = tasks.create_task(self._is_linked(), name="link-neighbours")
            loaded = await asyncio.shield(loading)
            if await linking:
                engine = self.engine
                sizes = (engine.shard_bytes, engine.kv_bytes)
                on_ready(Ready(epoch, *sizes, loaded.load_s, loaded.device, loaded.bits))
            punching.cancel()

    async def _is_linked(self) -> bool:
        try:
            await self._link_up()
        except LinkFault as fault:
            self._unlinked(fault)
            return False
        return True

    def _unlinked(self, fault: LinkFault) -> None:
        self._report(StageUnlinked(self._plan.epoch, fault.problem))

    async def _link_up(self) -> None:
        """Dial the downstream until it knows the plan too, then wait for the upstream."""
        plan = self._plan
        if self._place + 1 < len(plan.stages):
            after = plan.stages[self._place + 1]
            peer, address = after.node, after.address
        else:
            peer, address = plan.gateway, plan.gateway_address
        problem: LinkFault | None = None
        try:
            async with asyncio.timeout(LINK_S):
                while True:
                    try:
                        link = await self._transport.dial_data(address, expected=peer)
                        problem = None
                        break
                    except LinkFault as fault:
                        problem = fault
                        await asyncio.sleep(REDIAL_S)
                self._driver.take_downstream(link)
                await self._driver.wait_linked()
        except TimeoutError:
            raise LinkFault(
                f"the neighbours were not linked within {LINK_S:g} s: {problem or 'no upstream'}"
            ) from None

    async def _punch(self) -> None:
        """Have our router let the upstream in, where no relay helps both to begin at once."""
        plan, mine, endpoint = self._plan, self.mine, self._transport.endpoint
        there = plan.stages[self._place - 1].address if self._place else plan.gateway_address
        if endpoint is None or mine.address.tls or mine.address.relay or not there.quic:
            return
        while True:
            await endpoint.punch(there, expected=self.upstream)
            await asyncio.sleep(PUNCH_AGAIN_S)

    def take_upstream(self, link: DataLink) -> None:
        """The upstream neighbour has dialled."""
        self._driver.take_upstream(link)

    def report(self) -> StageReport:
        """Counters for the gateway."""
        counters, onward = self._driver.counters, self._driver.downstream
        loaded = self.engine.loaded
        assert loaded is not None
        return StageReport(
            epoch=self._plan.epoch,
            windows=counters.windows,
            rows=counters.rows,
            batches=counters.batches,
            steps=counters.steps,
            engine_s=counters.engine_s,
            busy_s=counters.busy_s,
            call_s=counters.call_s,
            node_s=counters.node_s,
            memory_bytes=self._memory_bytes(),
            sessions=self._driver.sessions,
            isolation=loaded.isolation,
            step_rows=counters.step_rows,
            next_rtt_s=(onward.round_trip_s or 0.0) if onward is not None else 0.0,
            next_bytes=onward.sent_bytes if onward is not None else 0,
            chunk_rows=counters.chunk_rows,
            chunk_s=counters.chunk_s,
            replay_rows=counters.replay_rows,
            replay_s=counters.replay_s,
        )

    def _memory_bytes(self) -> int:
        """Resident memory of this process and its stage process."""
        total = 0
        for pid in (None, self.engine.process.pid):
            try:
                total += psutil.Process(pid).memory_info().rss
            except psutil.NoSuchProcess:
                # It died between two reports; its exit is reported on its own.
                log.info("stage.gone pid=%s", pid)
        return int(total)

    def _process_gone(self, fault: EngineFault) -> None:
        self._died(fault)
        self._failed(fault)

    def _failed(self, error: AtollError) -> None:
        self._driver.close()
        if not self._trouble.done():
            self._trouble.set_result(error)

    async def _close(self) -> None:
        self._driver.close()
        await self.engine.close()
        self._kept.close()


def place_in(plan: Plan, node: NodeId) -> int:
    """Which stage of a plan is a node's.

    Raises:
        ProtocolFault: It has none, or several.
    """
    places = [i for i, stage in enumerate(plan.stages) if stage.node == node]
    if len(places) != 1:
        raise ProtocolFault(f"the plan gives this node {len(places)} stages, not one")
    return places[0]


def _is_new(behind: Sequence[StagePlan]) -> bool:
    """Whether the next stage lacks what was sent; the gateway never does."""
    return any(not stage.goes_on for stage in behind)
