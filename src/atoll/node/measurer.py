"""Measures when the gateway asks for it, tells the result, and watches whether it still holds.

The shards that are timed come from where the stage's own would: the model here,
its address, or the gateway.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NoReturn

from msgspec.structs import replace

from atoll.domain.errors import AtollError, ProtocolFault
from atoll.domain.ids import ModelId
from atoll.domain.measure import Measure, Measured, NotMeasured, ProbeRange, order_problem
from atoll.net.link import BulkLink
from atoll.node.options import NodeOptions
from atoll.node.probe import Outcome, ProbeJob, ProbeShard
from atoll.node.probe_cache import ProbeCache
from atoll.node.probe_drift import Drift, is_stale
from atoll.node.shard_seeker import ShardSeeker, Wanted
from atoll.node.stage_host import StageHost
from atoll.node.workshop import Workshop
from atoll.store.cache import drop_shard
from atoll.store.layout import Store
from atoll.store.shards import shard_path
from atoll.transfer.borrower import Holder

log = logging.getLogger(__name__)


class Measurer:
    """What a node knows of its own speed.

    Args:
        store: Where models and shards lie.
        options: How its stages are run.
        cache: What it measured before; None: nothing is kept.
        dial_lender: Opens a bulk link to the gateway.
        send: Takes the answer for the gateway.
        serving: Whether a stage is on this node now.
        workshop: What finds shards and times them; None: as on any machine.
    """

    def __init__(
        self,
        store: Store,
        options: NodeOptions,
        cache: ProbeCache | None,
        *,
        dial_lender: Callable[[], Awaitable[BulkLink]],
        send: Callable[[Measured | NotMeasured], None],
        serving: Callable[[], bool],
        workshop: Workshop | None = None,
    ) -> None:
        self._workshop = workshop or Workshop()
        self._store = store
        self._options = options
        self._cache = cache
        self._dial_lender = dial_lender
        self._send = send
        self._serving = serving
        self._orders: asyncio.Queue[Measure] = asyncio.Queue(maxsize=1)
        self._outcome: Outcome | None = None
        self._watched: tuple[StageHost, Drift] | None = None

    def ask(self, order: Measure) -> None:
        """Measure this once what is under way is done; only the newest order counts.

        Raises:
            ProtocolFault: The order is not one that can be followed.
        """
        problem = order_problem(order)
        if problem:
            raise ProtocolFault(f"the gateway asks for a measurement of {problem}")
        if self._orders.full():
            self._orders.get_nowait()
        self._orders.put_nowait(order)

    async def run(self) -> NoReturn:
        """Follow orders until cancelled."""
        while True:
            order = await self._orders.get()
            try:
                self._send(await self._follow(order))
            except AtollError as error:
                log.warning("probe.failed problem=%s", error)
                # Hints may name folders, which are the owner's business.
                self._send(NotMeasured(error.problem))

    async def _follow(self, order: Measure) -> Measured:
        seekers: list[ShardSeeker] = []
        brought = [r for r in order.ranges if not self._path(order.model, r).exists()]
        try:
            short = await self._shard(order, order.short, seekers)
            long = await self._shard(order, order.long, seekers) if order.long else None
            job = ProbeJob(order.model, short, long, order.rows_max)
            quiet = not (order.busy or self._serving())
            outcome = await self._workshop.measure(job, self._options, self._cache, keep=quiet)
        finally:
            for seeker in seekers:
                seeker.close()
            await asyncio.to_thread(self._drop, order.model, brought)
        if not outcome.recalled and (order.busy or self._serving()):
            # A stage came meanwhile, or was there: good enough to be told, not to be kept.
            self._forget(outcome)
            return replace(outcome.measured, busy=True)
        self._outcome = outcome
        return outcome.measured

    async def _shard(
        self, order: Measure, layers: ProbeRange, seekers: list[ShardSeeker]
    ) -> ProbeShard:
        seeker = self._workshop.seeker(
            Wanted(
                *(order.model, order.n_layers, order.data_offset),
                *(layers.first, layers.last, layers.shard),
            ),
            self._store,
            self._options,
            holders=[Holder("the gateway", self._dial_lender)],
            progress=lambda _here, _all: None,
        )
        seekers.append(seeker)
        file = await seeker.find()
        return ProbeShard(file.path, file.size_bytes, layers.first, layers.last)

    def _path(self, model: ModelId, layers: ProbeRange) -> Path:
        return shard_path(self._store, model, layers.first, layers.last)

    def _drop(self, model: ModelId, brought: list[ProbeRange]) -> None:
        """Nobody needs what was brought here to be timed, unless a stage is just that."""
        for layers in brought:
            try:
                drop_shard(self._store, model, layers.first, layers.last)
            except OSError as error:
                log.warning("probe.not_dropped problem=%s", error)

    def watch(self, stage: StageHost) -> None:
        """Compare what a stage takes with what was measured; call now and then."""
        outcome = self._outcome
        if outcome is None or outcome.measured.model != stage.model:
            return
        if self._watched is None or self._watched[0] is not stage:
            layers = stage.mine.last - stage.mine.first
            self._watched = (stage, Drift(outcome.measured, layers))
        ratio = self._watched[1].note(stage.work)
        if ratio is not None and is_stale(ratio):
            log.warning("probe.stale taken_over_predicted=%.2f", ratio)
            self._forget(outcome)
            self._outcome = None

    def _forget(self, outcome: Outcome) -> None:
        if self._cache is not None:
            self._cache.forget(outcome.key)
