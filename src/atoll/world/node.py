"""A node of a simulated world: the product's daemon, started again by its service."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from functools import partial

from atoll.domain.address import HostPort
from atoll.domain.errors import AtollError, EngineFault
from atoll.domain.ids import NodeId
from atoll.domain.measure import RAM, Measured, TierMemory, WindowTime, rows_for
from atoll.engine.parcel_messages import ParcelAnswer
from atoll.engine.stage_client import StageProcess
from atoll.engine.stage_messages import Computed
from atoll.net.identity import Identity
from atoll.node.daemon import NodeDaemon
from atoll.node.keeping import Keeping
from atoll.node.membership import Membership
from atoll.node.options import NodeOptions
from atoll.node.probe import Outcome, ProbeJob
from atoll.node.probe_cache import ProbeCache, ProbeKey
from atoll.node.workshop import Workshop
from atoll.sim.fake_model import FakeShard
from atoll.world.engines import Pace, Process, SimStage
from atoll.world.machine import Machine
from atoll.world.model import N_EMBD, NoStore, SimSeeker, stage_kv_bytes
from atoll.world.network import Network
from atoll.world.transport import transports_of

RESTART_S = 1.0
"""How long the service waits before it starts a node again."""
FIND_S = 0.05
LAYERS = 3
"""Of a stage whose call takes what an engine's does."""
FREE_BYTES = 32 * 1024**3


class SimNode:
    """One node.

    Args:
        net: All ways.
        machine: Where it runs.
        identity: Its key.
        gateway: The gateway's key, and where it is.
        secret: Lets it in the first time.
        pace: How long its engine takes.
        keeps_bytes: What parcels may take.
        rng: Draws how long things take.
    """

    def __init__(
        self,
        net: Network,
        machine: Machine,
        identity: Identity,
        *,
        gateway: tuple[NodeId, HostPort],
        secret: str,
        pace: Pace,
        keeps_bytes: int,
        rng: random.Random,
    ) -> None:
        self._net, self.machine, self.identity = net, machine, identity
        self._membership = Membership(gateway[0], (gateway[1],), secret)
        self._pace, self._rng = pace, rng
        self._options = NodeOptions(
            name=machine.name,
            model="",
            threads=1,
            threads_large=1,
            gpu="none",
            keeping=Keeping(ram_bytes=keeps_bytes),
        )
        self.refusals: list[str] = []
        """Why it was sent away or lost its gateway, in its own words."""

    async def live(self) -> None:
        """Be a node until cancelled."""
        while True:
            daemon = NodeDaemon(
                *(self.identity, NoStore(), self._options),
                tell=self._tell,
                workshop=self._workshop(),
            )
            try:
                await daemon.run(self._membership)
            except AtollError as error:
                self._tell(f"ended: {error.problem}")
                self.refusals.append(error.problem)
            await asyncio.sleep(RESTART_S)

    def _workshop(self) -> Workshop:
        return Workshop(
            open_transport=transports_of(self._net, self.machine),
            check_engine=_no_check,
            seeker=partial(SimSeeker, self.machine, FIND_S),
            kv_bytes=stage_kv_bytes,
            process=self._process,
            measure=self._measure,
            host_id=lambda: self.machine.host,
        )

    def _process(
        self,
        on_computed: Callable[[Computed, bytes], None],
        on_exit: Callable[[EngineFault], None],
        on_parcel: Callable[[ParcelAnswer, bytes], None],
    ) -> StageProcess:
        process = Process(self.machine, self._rng, self._pace, on_exit)
        shard = FakeShard(0, 0)
        return SimStage(process, shard, N_EMBD, on_computed=on_computed, on_parcel=on_parcel)

    async def _measure(
        self, job: ProbeJob, options: NodeOptions, _cache: ProbeCache | None, *, keep: bool
    ) -> Outcome:
        """Say what layers take here, about."""
        pace, slow = self._pace, self.machine.slow * self._rng.uniform(0.8, 1.3)
        await asyncio.sleep(pace.load_s * slow)
        layer_s = tuple(
            WindowTime(rows, slow * (pace.call_s + rows * pace.row_s) / LAYERS)
            for rows in rows_for(job.rows_max)
        )
        threads = (options.threads, options.threads_large)
        measured = Measured(
            *(job.model, "sim", "sim", *threads, layer_s, slow * pace.call_s / LAYERS),
            memory=(TierMemory("RAM", RAM, FREE_BYTES, FREE_BYTES),),
            measured_at_s=time.time(),
        )
        return Outcome(measured, _key(job, threads), recalled=not keep)

    def _tell(self, line: str) -> None:
        self._net.trace.note(f"{self.machine.name}: {line}")


def _key(job: ProbeJob, threads: tuple[int, int]) -> ProbeKey:
    long = (job.long.first, job.long.last) if job.long is not None else None
    short = (job.short.first, job.short.last)
    rows = rows_for(job.rows_max)
    return ProbeKey(job.model, "sim", "sim", "sim", *threads, None, rows, short, long)


async def _no_check(_gpu: str) -> None:
    """There is an engine."""
