"""One stage of one plan on this node: its shard, its process and its links."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import NoReturn

import psutil

from atoll.domain.control import (
    Fetching,
    Plan,
    Ready,
    SessionFailed,
    StagePlan,
    StageReport,
)
from atoll.domain.errors import (
    AtollError,
    BadModel,
    EngineFault,
    LinkFault,
    ProtocolFault,
)
from atoll.domain.ids import ModelId, NodeId
from atoll.engine.parcel_messages import ParcelAnswer
from atoll.engine.place import place
from atoll.engine.stage_client import ENGINE_SPARE_BYTES
from atoll.engine.stage_messages import Computed, Loaded, StageOptions
from atoll.net.link import BulkLink, DataLink
from atoll.net.transport import Transport
from atoll.node.keeping import Keeper, open_tiers
from atoll.node.options import NodeOptions
from atoll.node.parcels import Parcels, parcel_label
from atoll.node.probe_drift import Work
from atoll.node.shard_seeker import holders_of, wanted_of
from atoll.node.stage_driver import StageDriver
from atoll.node.workshop import Workshop
from atoll.store.layout import Store
from atoll.store.shards import ShardFile

log = logging.getLogger(__name__)

LINK_S = 30.0
"""How long the neighbours may take to be ready for each other."""
REDIAL_S = 0.1
PUNCH_AGAIN_S = 5.0
"""Routers remember for longer whom a port sent to: Linux for 30 s where no answer came
(`nf_conntrack_udp_timeout`), and RFC 4787 asks for two minutes (REQ-5)."""


class StageHost:
    """Loads the shard, starts the stage process, and joins the two neighbours.

    Args:
        plan: Its signature and epoch checked by the caller.
        dial_lender: Opens a bulk link to the gateway.
        report: Takes failures of single sessions.
        died: Told at once if the stage process ends by itself, before the links
            close: they are a symptom, and the cause is to be heard first.
        further: What keeps parcels beyond this machine's memory and disk.
        workshop: What the stage is made with.

    Raises:
        ProtocolFault: The plan is not one that this node can have a part in.
    """

    def __init__(
        self,
        plan: Plan,
        transport: Transport,
        store: Store,
        options: NodeOptions,
        *,
        dial_lender: Callable[[], Awaitable[BulkLink]],
        report: Callable[[SessionFailed], None],
        died: Callable[[AtollError], None],
        further: Sequence[Keeper] = (),
        workshop: Workshop | None = None,
    ) -> None:
        self._workshop = workshop = workshop or Workshop()
        self._plan = plan
        self._transport = transport
        self._options = options
        self._died = died
        places = [i for i, s in enumerate(plan.stages) if s.node == transport.identity.node_id]
        if len(places) != 1:
            raise ProtocolFault(f"the plan gives this node {len(places)} stages, not one")
        self._place = places[0]
        self._trouble: asyncio.Future[AtollError] = asyncio.get_running_loop().create_future()
        self._process = workshop.process(self._computed, self._process_gone, self._parcel_answered)
        name = f"{plan.epoch.incarnation}-{plan.epoch.counter}"
        self._kept = open_tiers(options.keeping, name, *further)
        label = parcel_label(plan, f"{self.mine.first}-{self.mine.last}")
        self._parcels = Parcels(self._kept.tiers, self._process.order_parcel, label)
        try:
            self._driver = StageDriver(
                *(plan, self._process, self._parcels), report=report, fail=self._failed
            )
        except ValueError as error:
            raise ProtocolFault(f"the plan's limits do not fit: {error}") from error
        self._loaded: Loaded | None = None
        self._fetching: Fetching | None = None
        self._seeker = workshop.seeker(
            *(wanted_of(plan, self.mine), store, options),
            holders=holders_of(self.mine.sources, transport, dial_lender),
            progress=self._fetched,
        )

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
        return self._loaded is not None

    @property
    def fetching(self) -> Fetching | None:
        """How far the shard is on its way, while it is."""
        return None if self._loaded is not None else self._fetching

    async def run(self, on_ready: Callable[[Ready], None]) -> NoReturn:
        """Have the shard, load it, link both neighbours, and serve until it fails.

        Args:
            on_ready: Called once when the stage can serve.

        Raises:
            AtollError: Why the stage cannot go on; it is closed already.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._watch(), name="watch-stage")
                tasks.create_task(self._parcels.run(), name="parcels")
                loading = tasks.create_task(self._load(), name="load-shard")
                linking = tasks.create_task(self._link_up(), name="link-neighbours")
                punching = tasks.create_task(self._punch(), name="punch-to-upstream")
                shard, kv, loaded = await loading
                await linking
                punching.cancel()
                on_ready(
                    Ready(self._plan.epoch, shard.size_bytes, kv, loaded.load_s, loaded.device)
                )
        except* AtollError as group:
            raise group.exceptions[0] from None
        finally:
            await self._close()
        raise AssertionError("a stage's watch ended without a reason")

    async def _watch(self) -> NoReturn:
        raise await self._trouble

    async def _load(self) -> tuple[ShardFile, int, Loaded]:
        plan, mine = self._plan, self.mine
        shard = await self._seeker.find()
        kv = await asyncio.to_thread(self._workshop.kv_bytes, shard, plan, mine)
        options = StageOptions(
            path=str(shard.path),
            n_slots=plan.n_slots,
            context=plan.context,
            rows_max=plan.rows_max,
            threads=self._options.threads,
            threads_large=self._options.threads_large,
        )
        loaded = await self._process.start(
            options,
            memory_bytes=2 * shard.size_bytes + kv + ENGINE_SPARE_BYTES,
            spin=self._options.spin,
            gpu=await place(self._options.gpu, shard.size_bytes + kv),
        )
        if loaded.n_embd != plan.n_embd or loaded.n_layers != mine.last - mine.first:
            raise BadModel(
                "the shard is not what the plan describes",
                hint="use the same version of Atoll everywhere",
            )
        self._loaded = loaded
        return shard, kv, loaded

    def _fetched(self, here_bytes: int, size_bytes: int) -> None:
        self._fetching = Fetching(self._plan.epoch, here_bytes, size_bytes)

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
        assert self._loaded is not None
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
            isolation=self._loaded.isolation,
            step_rows=counters.step_rows,
            next_rtt_s=(onward.round_trip_s or 0.0) if onward is not None else 0.0,
            next_bytes=onward.sent_bytes if onward is not None else 0,
        )

    def _memory_bytes(self) -> int:
        """Resident memory of this process and its stage process."""
        total = 0
        for pid in (None, self._process.pid):
            try:
                total += psutil.Process(pid).memory_info().rss
            except psutil.NoSuchProcess:
                # It died between two reports; its exit is reported on its own.
                log.info("stage.gone pid=%s", pid)
        return int(total)

    def _computed(self, message: Computed, payload: bytes) -> None:
        self._driver.computed(message, payload)

    def _parcel_answered(self, answer: ParcelAnswer, data: bytes) -> None:
        self._parcels.answered(answer, data)

    def _process_gone(self, fault: EngineFault) -> None:
        self._died(fault)
        self._failed(fault)

    def _failed(self, error: AtollError) -> None:
        self._driver.close()
        if not self._trouble.done():
            self._trouble.set_result(error)

    async def _close(self) -> None:
        self._driver.close()
        await self._process.close()
        self._kept.close()
        self._seeker.close()
