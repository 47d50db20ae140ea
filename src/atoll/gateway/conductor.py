"""The conductor: has rings formed of the nodes that are in, and gives each request to one.

Whenever nodes are free it plans what rings they could form, and lets those begin;
a ring that broke gives its nodes back, and they are planned for anew. Where better
rings are foretold than those that stand, the ones that differ end, and their streams
go on in those that follow.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import psutil

from atoll.api.backend import Demand, Health, ModelCard
from atoll.domain.errors import AtollError, LinkFault, RingDown
from atoll.domain.generation import GenerateRequest, Sampled
from atoll.domain.ids import Epoch, NodeId
from atoll.engine.ends_messages import EndsOptions
from atoll.gateway.casting import Cast, Caster
from atoll.gateway.dispatch import Dispatch
from atoll.gateway.generation import Generation
from atoll.gateway.ground import Ground, Reach, Rearranged
from atoll.gateway.known_times import known_times
from atoll.gateway.mending import mend
from atoll.gateway.numeric_classes import NumericClasses
from atoll.gateway.patience import Patience, Shortage
from atoll.gateway.replanner import Replanner
from atoll.gateway.ring import Ring
from atoll.gateway.ring_driver import RingDriver
from atoll.gateway.standing_by import StandingBy
from atoll.gateway.trouble import hear_of_trouble
from atoll.gateway.turnstile import Turnstile
from atoll.members.member import Member
from atoll.net.link import BULK, DATA, DataLink, Kind
from atoll.net.transport import Transport

log = logging.getLogger(__name__)

MEASURE_S = 120.0
"""Most time for the nodes' measurements and the start of the ends, before rings are planned."""
ENDS_SPARE = 1.25
"""Free memory that the ends of a further ring need, as a multiple of what they hold."""


class Conductor:
    """The rings as the HTTP side sees them (`api.backend.Backend`).

    Args:
        model_name: What clients call the model.
        ground: What every ring stands on.
        caster: Decides who computes what.
        ends: Where the ends' files lie.
        incarnation: This start of the gateway.
    """

    def __init__(
        self,
        model_name: str,
        ground: Ground,
        *,
        caster: Caster,
        ends: EndsOptions,
        incarnation: int,
    ) -> None:
        self._name = model_name
        self._ground = ground
        self._fleet = ground.fleet
        self._caster = caster
        self._ends_bytes = ends.need_bytes + (ground.draft.need_bytes if ground.draft else 0)
        self._incarnation = incarnation
        self._counter = 0
        self._created = int(time.time())
        self.rings: tuple[Ring, ...] = tuple(
            Ring(number, ground, ends, mend=self._mend, changed=self._ring_changed)
            for number in range(max(1, ground.options.rings))
        )
        self._replanner = Replanner(self._fleet, caster, self.rings[0].ends, tell=ground.tell)
        self._standing_by = StandingBy()
        cells = ground.options.streams * ground.options.context
        self._layer_cache_bytes = max(ground.manifest.layer_kv_bytes) * cells
        self._wanted: list[Cast] = []
        self._patience = {ring: Patience() for ring in self.rings}
        self._fruitless: int | None = None
        self._shortage = Shortage()
        self._reason = f"waiting for {ground.options.nodes} nodes to join"
        self._turnstile = Turnstile(ground.options.waiting)
        self._dispatch = Dispatch(self.rings, ground.options)
        self._news = asyncio.Event()
        self._served = asyncio.Event()
        self._closing = False
        self.became_ready = asyncio.Event()
        self._reach: Reach | None = None
        self._fleet.on_rearranged = self._rests
        hear_of_trouble(self._fleet, self.rings)
        self._fleet.measuring.is_serving = lambda: bool(self._serving)

    def open(self, transport: Transport, link_port: int) -> None:
        """Nodes are dialled over this, and reach us at this TCP port; before `run`."""
        self._reach = Reach(transport, link_port, self._next_epoch)

    # What the HTTP side asks

    @property
    def card(self) -> ModelCard:
        """The model that is served."""
        loaded = self.rings[0].ends.loaded
        n_vocab = loaded.n_vocab if loaded else self._ground.manifest.n_vocab
        return ModelCard(self._name, self._created, self._ground.options.context, n_vocab)

    @property
    def classes(self) -> NumericClasses:
        """Which bits parts of the model come to."""
        return self._ground.classes

    def health(self) -> Health:
        """Whether a generation could start now."""
        if self._serving:
            return Health(True)
        return Health(False, self._reason, holds=self._turnstile.is_shut)

    def check(self, demand: Demand) -> None:
        """Whether a request may come.

        Raises:
            Overloaded: It may not, and when it may come again.
        """
        if not self._turnstile.is_shut:
            self._dispatch.check(demand)

    def generate(self, request: GenerateRequest) -> AsyncGenerator[Sampled, None]:
        """Yield a session's tokens; closing it cancels the session.

        Raises:
            DeadlineExceeded: Its time is over.
            Overloaded: No slot is free and the waiting line is full.
            RingDown: A node is missing or died.
            BadRequest: The request cannot be served as it stands.
        """
        return self._dispatch.watch(request, self._generate(request))

    async def _generate(self, request: GenerateRequest) -> AsyncGenerator[Sampled, None]:
        """The tokens, however long they take."""
        await self._turnstile.wait()
        if not (self._serving or request.sampled):
            raise RingDown(
                f"the model cannot be served now: {self._reason}", hint="try again shortly"
            )
        if self._ground.options.exact and not request.exact:
            request = dataclasses.replace(request, exact=True)
        generation = Generation(request, self._find_driver)
        async with aclosing(generation.run()) as tokens:
            async for sampled in tokens:
                yield sampled

    async def _find_driver(self, request: GenerateRequest) -> RingDriver:
        """The ring that will finish the request first, once there is one."""
        outage_s = self._ground.options.outage_s
        try:
            async with asyncio.timeout(outage_s):
                while (driver := self._dispatch.choose(request)) is None:
                    if self._closing:
                        raise RingDown(self._reason, hint="go on with it later")
                    self._served.clear()
                    await self._served.wait()
        except TimeoutError:
            raise RingDown(
                f"no ring came back within {outage_s:g} s: {self._reason}",
                hint="what the answer has so far stands; go on with it later",
            ) from None
        return driver

    @property
    def _serving(self) -> list[Ring]:
        return [ring for ring in self.rings if ring.driver is not None]

    # The rings' lives

    async def run(self) -> None:
        """Have rings formed whenever nodes are free for them, until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._hear_changes(), name="hear-changes")
                tasks.create_task(
                    self._replanner.watch(self._standing, self._rearrange, len(self.rings)),
                    name="replan",
                )
                await self._fleet.wait_full()
                while True:
                    self._news.clear()
                    for ring in await self._next_rings():
                        tasks.create_task(self._keep(ring), name=f"ring-{ring.number}")
                    await self._news.wait()
        finally:
            self._closing, self._reason = True, "the gateway is closing"
            self._served.set()
            for ring in self.rings:
                await ring.close()

    async def _hear_changes(self) -> None:
        while True:
            await self._fleet.wait_change(self._fleet.changes)
            self._complete()
            self._have_stand_by()
            self._news.set()

    def _complete(self) -> None:
        """Where equal shares were dealt to too few, deal them anew once there are enough."""
        options = self._ground.options
        if options.plan != "equal" or self._fleet.missing:
            return
        for ring in self.rings:
            if ring.players and len(ring.players) < options.nodes:
                ring.rearrange()

    def _next_epoch(self) -> Epoch:
        self._counter += 1
        return Epoch(self._incarnation, self._counter)

    def _mend(self, cast: Cast, sound: set[NodeId]) -> Cast | None:
        present = {id(member) for member in self._fleet.everybody}
        return mend(cast, sound, present, self._free())

    async def _keep(self, ring: Ring) -> None:
        """Let a ring live, and heed how it ended."""
        assert self._reach is not None
        error, served_s = await ring.run(self._reach)
        self._fruitless = None
        if isinstance(error, Rearranged):
            self._reason = error.problem
            self._patience[ring].restore()
        else:
            self._failed(error, served_s, ring)
        self._news.set()

    def _failed(self, error: AtollError, served_s: float, ring: Ring) -> None:
        """A ring broke, or could not be planned: try again later, but not for ever."""
        self._reason = error.problem
        self._turnstile.open()
        self._ground.tell(f"{ring.name} is down: {error}")
        loop, changes = asyncio.get_running_loop(), self._fleet.changes
        again_s = self._patience[ring].note(served_s, now_s=loop.time(), changes=changes)
        if again_s == float("inf"):
            self._ground.tell(
                f"{self._patience[ring].failed} attempts failed;"
                " mend the cause, then restart a node to try again"
            )
        else:
            loop.call_at(again_s, self._news.set)

    async def _next_rings(self) -> list[Ring]:
        """Rings that may begin now, each with the cast that it took."""
        now_s, changes = asyncio.get_running_loop().time(), self._fleet.changes
        patience = self._patience
        idle = [r for r in self.rings if not r.taken and not patience[r].is_lost(changes)]
        alone = not any(ring.taken for ring in self.rings)
        idle = idle[: self._room_for_ends() + alone]
        if not idle or any(patience[ring].pauses(now_s) for ring in idle):
            return []
        if alone and self._waits_for_more(now_s):
            return []
        if self._fruitless == changes and not alone:
            # These nodes were found to form no further ring.
            return []
        try:
            wanted = self._wanted_now(len(idle))
            casts = await self._plan(len(idle), alone=alone) if wanted is None else wanted
        except AtollError as error:
            self._fruitless = changes
            if alone:
                self._failed(error, 0.0, idle[0])
            else:
                log.info("conductor.no_further_ring problem=%s", error.problem)
            return []
        taken = []
        for ring, cast in zip(idle, casts, strict=False):
            ring.take(cast)
            taken.append(ring)
        return taken

    def _wanted_now(self, n_rings: int) -> list[Cast] | None:
        """Of the rings that were decided on, those whose nodes are free; None: plan anew."""
        if any(not self._fleet.has(m.link.peer) for c in self._wanted for m in c.members):
            self._wanted = []
        if not self._wanted:
            return None
        free = {member.link.peer for member in self._free()}
        ready = [c for c in self._wanted if all(m.link.peer in free for m in c.members)][:n_rings]
        self._wanted = [cast for cast in self._wanted if cast not in ready]
        return ready

    async def _plan(self, rings_max: int, *, alone: bool) -> Sequence[Cast]:
        """What rings the free nodes should form.

        Raises:
            AtollError: They can form none.
        """
        if alone:
            self._reason = "the ring is being formed"
        try:
            async with asyncio.timeout(MEASURE_S):
                await self._fleet.measuring.wait_settled(self._ground.tell)
                await self.rings[0].ends.ready()
        except TimeoutError:
            raise RingDown(f"the nodes were not measured within {MEASURE_S:g} s") from None
        everybody, ends_s = self._fleet.everybody, self.rings[0].ends.window_s
        times = known_times(ends_s, everybody, self._fleet.measuring.distances.links())
        return await self._caster.cast(self._free(), times, rings_max=rings_max, fewer=alone)

    def _waits_for_more(self, now_s: float) -> bool:
        """Whether a ring of the nodes that are left should wait: another may be about to come."""
        if self._fleet.missing and not self.became_ready.is_set():
            return True  # the first ring waits for all
        again_s = self._shortage.over_s(self._fleet.missing, now_s)
        if now_s < again_s:
            asyncio.get_running_loop().call_at(again_s, self._news.set)
        return now_s < again_s

    def _free(self) -> list[Member]:
        """Who has no part in a ring: those with a place first, as equal shares go by them."""
        busy = {member.link.peer for ring in self.rings for member in ring.players}
        spares = [member for member in self._fleet.spares if not member.resting]
        return [m for m in (*self._fleet.members, *spares) if m.link.peer not in busy]

    def _room_for_ends(self) -> int:
        """How many further rings this machine has memory for: each has ends of its own."""
        if not self._ends_bytes:
            return len(self.rings)
        return int(psutil.virtual_memory().available / (ENDS_SPARE * self._ends_bytes))

    # Better rings

    def _standing(self) -> list[Cast]:
        """The rings that serve; empty while one is formed or rearranged."""
        taken = [ring for ring in self.rings if ring.taken]
        if any(ring.driver is None for ring in taken):
            return []
        return [ring.cast for ring in taken if ring.cast is not None]

    def _rearrange(self, casts: Sequence[Cast]) -> None:
        """Have these rings instead of those that stand; those that stay the same go on."""
        keep = {cast.key for cast in casts} & {cast.key for cast in self._standing()}
        self._wanted = [cast for cast in casts if cast.key not in keep]
        for ring in self.rings:
            if ring.taken and ring.cast is not None and ring.cast.key not in keep:
                ring.rearrange()

    def _rests(self) -> None:
        """A node handed its place on: its ring ends once its streams have."""
        for ring in self.rings:
            if any(member.resting for member in ring.players):
                ring.rearrange()

    def _ring_changed(self) -> None:
        if self._serving:
            self._turnstile.open()
            self._served.set()
            self.became_ready.set()
        elif any(ring.is_winding_down or ring.is_being_mended for ring in self.rings):
            self._turnstile.shut()
            self._reason = "the ring is being rearranged"
        self._have_stand_by()
        self._news.set()

    def _have_stand_by(self) -> None:
        """Who has no part stands by for those who have."""
        rings = [(r.cast, r.notice) for r in self.rings if r.cast and r.notice]
        if len(rings) == sum(ring.taken for ring in self.rings):
            self._standing_by.ask(rings, self._free(), self._layer_cache_bytes)

    # What others report

    def authorise(self, peer: NodeId, kind: Kind) -> None:
        """Data links are taken from last stages alone; nodes introduce themselves.

        Shards are lent to members.
        """
        if kind == BULK and not self._fleet.has(peer):
            raise LinkFault("only nodes that have joined get a shard", hint="join first")
        if kind == DATA and not any(ring.is_last(peer) for ring in self.rings):
            raise LinkFault("the plan names another neighbour", hint="try again shortly")

    def on_data(self, link: DataLink) -> None:
        """A last stage has dialled."""
        if not any(ring.on_data(link) for ring in self.rings if ring.is_last(link.peer)):
            link.close(LinkFault("the plan has changed"))
