"""The conductor: turns a full fleet into a ring, and again after it broke.

One epoch after the other: plan, announce, link, wait for every stage, serve,
until something is lost. Streams of a broken epoch end with an error; the next
epoch begins as soon as every place is taken again.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Sequence

from atoll.api.backend import Health, ModelCard
from atoll.domain.control import Plan, SessionFailed
from atoll.domain.errors import AtollError, EngineFault, LinkFault, RingDown
from atoll.domain.generation import GenerateRequest, Sampled
from atoll.domain.ids import NO_SESSION, Epoch, NodeId, SessionId
from atoll.engine.ends_messages import EndsOptions, ItemsDone
from atoll.gateway.casting import Cast, Caster
from atoll.gateway.ends_keeper import EndsKeeper
from atoll.gateway.formation import Formation
from atoll.gateway.known_times import known_times
from atoll.gateway.mailbox import Mailbox
from atoll.gateway.options import RingOptions
from atoll.gateway.replanner import Replanner
from atoll.gateway.ring_driver import RingDriver
from atoll.gateway.ring_plan import coordinator_config, make_plan, own_address
from atoll.gateway.stalls import wait_stalled
from atoll.gateway.turnstile import Turnstile
from atoll.members.fleet import Fleet
from atoll.members.member import Member
from atoll.model.manifest import Manifest
from atoll.net.identity import Identity
from atoll.net.link import BULK, DATA, DataLink, Kind
from atoll.net.transport import Transport

log = logging.getLogger(__name__)

FORM_S = 120.0
"""Most time for cutting, loading and linking a ring, from when a shard last made progress."""
AGAIN_S = 2.0
"""Pause before a broken ring is formed again; doubled with each attempt that fails."""
ATTEMPTS_MAX = 5
"""Rings in a row that may break at once; then the next is formed when the fleet changes."""
STEADY_S = 10.0
"""A ring that served for so long was no failed attempt."""
WIND_DOWN_S = 600.0
"""Most time that streams have to end before a ring is rearranged."""
SYMPTOM_S = 0.25
"""A link that breaks is a symptom: so long its cause may take to be reported."""
SESSION_BITS = 62


class Rearranged(AtollError):
    """The ring ends because it is to be formed of other nodes."""


class Conductor:
    """The ring as the HTTP side sees it (`gateway.backend.Backend`).

    Args:
        model_name: What clients call the model.
        manifest: The model in numbers.
        caster: Decides who computes what.
        ends: Where the ends' files lie.
        fleet: The nodes.
        incarnation: This start of the gateway.
        tell: Takes one line at a time for the operator to read.
    """

    def __init__(
        self,
        model_name: str,
        manifest: Manifest,
        fleet: Fleet,
        *,
        caster: Caster,
        identity: Identity,
        options: RingOptions,
        ends: EndsOptions,
        incarnation: int,
        tell: Callable[[str], None],
    ) -> None:
        self._name = model_name
        self._manifest = manifest
        self._caster = caster
        self._cast: Cast | None = None
        self._fleet = fleet
        self._identity = identity
        self._options = options
        self._incarnation = incarnation
        self._counter = 0
        self._tell = tell
        self._created = int(time.time())
        self._ends = EndsKeeper(ends, options, done=self._ends_done, gone=self._ends_gone)
        self._replanner = Replanner(fleet, caster, self._ends, tell=tell)
        self._plan: Plan | None = None
        self._driver: RingDriver | None = None
        self._serving = False
        self._reason = f"waiting for {options.nodes} nodes to join"
        self._trouble: asyncio.Future[AtollError] | None = None
        self._forming: asyncio.Timeout | None = None
        self._formation: Formation | None = None
        self._rearranging = asyncio.Event()
        self._turnstile = Turnstile(options.waiting)
        self.became_ready = asyncio.Event()
        self._link_port = 0
        self._transport: Transport | None = None
        fleet.on_rearranged = self._rearranging.set
        fleet.on_lost = self._lost
        fleet.on_session_failed = self._session_failed
        fleet.on_fetched = self._fetched
        fleet.measuring.is_serving = lambda: self._serving

    def open(self, transport: Transport, link_port: int) -> None:
        """Nodes are dialled over this, and reach us at this TCP port; before `run`."""
        self._transport, self._link_port = transport, link_port

    # What the HTTP side asks

    @property
    def card(self) -> ModelCard:
        """The model that is served."""
        loaded = self._ends.loaded
        n_vocab = loaded.n_vocab if loaded else self._manifest.n_vocab
        return ModelCard(self._name, self._created, self._options.context, n_vocab)

    @property
    def cast(self) -> Cast | None:
        """Who computes what by the plan in force."""
        return self._cast

    @property
    def plan(self) -> Plan | None:
        """The plan in force, while there is one."""
        return self._plan

    @property
    def driver(self) -> RingDriver | None:
        """The running epoch."""
        return self._driver if self._serving else None

    @property
    def ends(self) -> EndsKeeper:
        """The ends process."""
        return self._ends

    def health(self) -> Health:
        """Whether a generation could start now."""
        if self._serving:
            return Health(True)
        return Health(False, self._reason, holds=self._turnstile.is_shut)

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Sampled, None]:
        """Yield a session's tokens; closing it cancels the session.

        Raises:
            Overloaded: No slot is free and the waiting line is full.
            RingDown: A node is missing or died.
            BadRequest: The request cannot be served as it stands.
        """
        await self._turnstile.wait()
        driver = self._driver
        if driver is None or not self._serving:
            raise RingDown(
                f"the model cannot be served now: {self._reason}", hint="try again shortly"
            )
        if self._options.exact and not request.exact:
            request = dataclasses.replace(request, exact=True)
        session = SessionId(secrets.randbits(SESSION_BITS))
        mailbox = Mailbox()
        driver.submit(session, request, mailbox)
        try:
            while True:
                sampled = await mailbox.get()
                yield sampled
                if sampled.finish is not None:
                    return
        finally:
            driver.cancel(session, "the client went away")

    # The ring's life

    async def run(self) -> None:
        """Form the ring whenever the fleet is full, until cancelled."""
        failed = 0
        try:
            while True:
                await self._fleet.wait_full()
                changes = self._fleet.changes
                error, served_s = await self._one_epoch()
                self._reason = error.problem
                if isinstance(error, Rearranged):
                    failed = 0
                    continue
                self._turnstile.open()
                failed = 1 if served_s >= STEADY_S else failed + 1
                self._tell(f"the ring is down: {error}")
                if failed < ATTEMPTS_MAX:
                    await asyncio.sleep(AGAIN_S * 2 ** (failed - 1))
                    continue
                self._tell(
                    f"{failed} attempts failed; mend the cause, then restart a node to try again"
                )
                await self._fleet.wait_change(changes)
                failed = 0
        finally:
            await self._ends.close()

    async def _one_epoch(self) -> tuple[AtollError, float]:
        """Serve one epoch; returns what ended it, and the seconds it served."""
        trouble: asyncio.Future[AtollError] = asyncio.get_running_loop().create_future()
        self._trouble = trouble
        self._rearranging.clear()
        try:
            self._reason = "the ring is being formed"
            async with asyncio.timeout(FORM_S) as self._forming, asyncio.TaskGroup() as tasks:
                forming = tasks.create_task(self._form(), name="form-ring")
                trouble.add_done_callback(lambda _done: forming.cancel())
            if trouble.done():
                return trouble.result(), 0.0
            return await self._serve(forming.result(), trouble)
        except TimeoutError:
            obstacle = self._formation.obstacle if self._formation is not None else ""
            return RingDown(f"the ring could not be formed within {FORM_S:g} s{obstacle}"), 0.0
        except ExceptionGroup as group:
            fault = next((e for e in group.exceptions if isinstance(e, AtollError)), None)
            if fault is None:
                raise
            return fault, 0.0
        finally:
            self._serving = False
            self._trouble = self._forming = self._formation = None
            if self._driver is not None:
                reason = trouble.result().problem if trouble.done() else "the gateway is closing"
                self._driver.down(reason)
            self._driver = None

    async def _serve(
        self, driver: RingDriver, trouble: asyncio.Future[AtollError]
    ) -> tuple[AtollError, float]:
        driver.up()
        self._serving = True
        self._turnstile.open()
        self._tell("the ring is complete: " + self._shape())
        self.became_ready.set()
        began_s = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(self._watch(driver), name="watch-progress"),
                tasks.create_task(self._wind_down(driver), name="wind-down"),
                tasks.create_task(self._replanner.watch(self._cast), name="replan"),
            ]
            # Shielded, as a cancelled wait would cancel the future too.
            error = await asyncio.shield(trouble)
            for task in background:
                task.cancel()
        return error, time.monotonic() - began_s

    async def _wind_down(self, driver: RingDriver) -> None:
        """Once the fleet was rearranged: hold new streams, let the old ones end, and stop."""
        await self._rearranging.wait()
        self._turnstile.shut()
        self._serving = False
        self._reason = "the ring is being rearranged"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WIND_DOWN_S):
                await driver.wait_idle()
        self._fail(Rearranged(self._reason))

    async def _watch(self, driver: RingDriver) -> None:
        """Give the ring up when a session makes no progress: somebody keeps its windows.

        While stages report new work a session may wait longer: it may be a long
        prompt on slow machines, or its turn may come late.
        """

        def work() -> tuple[int, ...]:
            return tuple(m.report.rows for m in self._players if m.report is not None)

        await wait_stalled(self._options.stall_s, lambda: driver.marks, work)
        if driver.at_ends:
            self._ends.replace()
        self._fail(RingDown(f"no answer came round the ring for {self._options.stall_s:g} s"))

    async def _form(self) -> RingDriver:
        await self._fleet.measuring.wait_settled(self._tell)
        ends = await self._ends.ready()
        fleet = self._fleet
        left = RingDown("a node left before the ring was formed")
        if fleet.missing:
            raise left
        links = fleet.measuring.distances.links()
        times = known_times(self._ends.window_s, fleet.everybody, links)
        cast = await self._caster.cast(fleet.members, fleet.everybody, times)
        members = cast.members
        if not all(fleet.has(member.link.peer) for member in members):
            raise left
        assert self._transport is not None
        self._cast = cast
        self._counter += 1
        plan = make_plan(
            Epoch(self._incarnation, self._counter),
            self._manifest,
            cast,
            self._options,
            lenders=self._fleet.everybody,
            gateway=(
                self._identity.node_id,
                own_address(members[-1], self._transport, self._link_port),
            ),
        )
        self._plan = plan
        driver = RingDriver(
            plan,
            coordinator_config(members, self._options),
            self._identity,
            ends,
            fail=self._link_broke,
        )
        self._driver = driver
        self._formation = Formation(plan, members, driver, self._fleet, self._transport)
        await self._formation.run(self._identity)
        return driver

    @property
    def _players(self) -> Sequence[Member]:
        """Who has a part in the plan in force."""
        return self._cast.members if self._cast is not None else ()

    def _shape(self) -> str:
        assert self._plan is not None
        inner = " → ".join(f"{s.name} [{s.first}, {s.last})" for s in self._plan.stages)
        return f"gateway → {inner} → gateway"

    # What others report

    def authorise(self, peer: NodeId, kind: Kind) -> None:
        """Data links are taken from the last stage alone; nodes introduce themselves.

        Shards are lent to members.
        """
        if kind == BULK and not self._fleet.has(peer):
            raise LinkFault("only nodes that have joined get a shard", hint="join first")
        if kind == DATA and (self._plan is None or peer != self._plan.stages[-1].node):
            raise LinkFault("the plan names another neighbour", hint="try again shortly")

    def on_data(self, link: DataLink) -> None:
        """The last stage has dialled."""
        if self._driver is None or self._formation is None:
            link.close(LinkFault("the plan has changed"))
            return
        self._formation.take_last(link)

    def _fetched(self) -> None:
        """A shard made progress: a ring that forms may take longer."""
        if self._forming is not None and not self._forming.expired():
            self._forming.reschedule(asyncio.get_running_loop().time() + FORM_S)

    def _ends_done(self, message: ItemsDone, payload: bytes) -> None:
        if self._driver is not None:
            self._driver.ends_done(message, payload)

    def _lost(self, node: NodeId, error: AtollError) -> None:
        """A node failed or left; that matters if it has a part."""
        if any(member.link.peer == node for member in self._players):
            self._fail(error)

    def _fail(self, error: AtollError) -> None:
        if self._trouble is not None and not self._trouble.done():
            self._trouble.set_result(error)
            # Streams end now, not when the conductor wakes.
            self._serving = False
            if self._driver is not None:
                self._driver.down(error.problem)

    def _link_broke(self, error: AtollError) -> None:
        trouble = self._trouble

        def tell() -> None:
            if self._trouble is trouble:
                self._fail(error)

        asyncio.get_running_loop().call_later(SYMPTOM_S, tell)

    def _session_failed(self, message: SessionFailed) -> None:
        if self._driver is None or self._plan is None or message.epoch != self._plan.epoch:
            return
        log.warning("ring.session_failed code=%s problem=%s", message.code, message.problem)
        if message.session != NO_SESSION:
            self._driver.session_failed(message.session, message.seq, message.code, message.problem)

    def _ends_gone(self, fault: EngineFault) -> None:
        self._fail(RingDown(f"the gateway's {fault.problem}"))
