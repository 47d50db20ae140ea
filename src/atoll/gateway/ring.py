"""One ring of the model: formed of a cast, served, and ended; then it may be formed again.

The conductor decides of whom and when. A ring that lost a part is mended if it can be.
Where it cannot, and where a ring is rearranged, streams begin again in the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence

from atoll.domain.control import Plan, PlanNotice, SessionFailed
from atoll.domain.errors import AtollError, EngineFault, RingDown
from atoll.domain.ids import NO_SESSION, NodeId
from atoll.engine.ends_messages import EndsOptions, ItemsDone
from atoll.engine.parcel_messages import ParcelAnswer
from atoll.gateway.casting import Cast
from atoll.gateway.draft_keeper import DraftKeeper
from atoll.gateway.ends_keeper import EndsKeeper
from atoll.gateway.formation import Formation
from atoll.gateway.ground import Ground, Reach, Rearranged
from atoll.gateway.new_driver import config_for, encoding_for, new_driver
from atoll.gateway.parking import age_resting
from atoll.gateway.patience import STEADY_S
from atoll.gateway.ring_driver import RingDriver
from atoll.gateway.ring_plan import make_plan, own_address
from atoll.gateway.stalls import wait_stalled
from atoll.members.member import Member
from atoll.net.link import DataLink
from atoll.ring.coordinator_messages import DraftDone, DraftGone

log = logging.getLogger(__name__)

QUICK_MAX = 4
"""Times in a row that a ring is mended though it broke soon: then it is formed anew."""
MEND_S = 15.0
"""The same for one that was mended: its sessions wait. Then they begin again elsewhere."""
FORM_S = 120.0
"""Most time for cutting, loading and linking a ring, from when a shard last made progress."""
WIND_DOWN_S = 5.0
"""Most time that streams have to end before a ring is rearranged. Others wait meanwhile; a
stream that goes on longer goes on in the next one."""
SYMPTOM_S = 0.25
"""A link that breaks is a symptom: so long its cause may take to be reported."""

Mend = Callable[[Cast, set[NodeId]], Cast | None]
"""Finds who takes what a ring has lost, given the nodes whose stages are sound."""


class Ring:
    """One of the rings that may stand side by side.

    Args:
        number: Its number, from 0.
        ground: What it stands on.
        ends: Where the ends' files lie.
        mend: Finds who takes what was lost.
        changed: Called when it begins to serve, breaks, winds down, or is over.
    """

    def __init__(
        self,
        number: int,
        ground: Ground,
        ends: EndsOptions,
        *,
        mend: Mend,
        changed: Callable[[], None],
    ) -> None:
        self.number = number
        self._ground = ground
        self._changed = changed
        self._mend = mend
        self._sound: set[NodeId] = set()
        self._mended: Cast | None = None
        self._quick = 0
        self.ends = EndsKeeper(
            *(ends, ground.options),
            # One process is timed for all.
            timed=number == 0 and ground.options.plan == "auto",
            done=self._ends_done,
            gone=self._ends_gone,
            parcel=self._parcel_answered,
            process=ground.ends_process,
        )
        self.drafts = DraftKeeper(
            ground.draft, ground.options, done=self._drafted, gone=self._draft_gone
        )
        self.reason = "it is not formed"
        """Why it cannot serve, where it cannot."""
        self.encoding = ""
        """How its rows travel, exact sessions apart, since it was formed."""
        self._cast: Cast | None = None
        self._plan: Plan | None = None
        self._driver: RingDriver | None = None
        self._serving = False
        self._trouble: asyncio.Future[AtollError] | None = None
        self._forming: asyncio.Timeout | None = None
        self._formation: Formation | None = None
        self._rearranging = asyncio.Event()
        self.taken = False

    @property
    def name(self) -> str:
        """What the operator reads."""
        return f"ring {self.number + 1}" if self.number else "the ring"

    @property
    def cast(self) -> Cast | None:
        """Who computes what by the last plan."""
        return self._cast

    @property
    def plan(self) -> Plan | None:
        """The last plan."""
        return self._plan

    @property
    def driver(self) -> RingDriver | None:
        """The running epoch, while new streams may begin."""
        return self._driver if self._serving else None

    @property
    def players(self) -> Sequence[Member]:
        """Who has a part now."""
        return self._cast.members if self._cast is not None and self.taken else ()

    @property
    def notice(self) -> PlanNotice | None:
        """The plan that it serves by, as nodes were told; None while it does not serve."""
        return self._formation.notice if self._formation and self._serving else None

    @property
    def is_being_mended(self) -> bool:
        """Whether its sessions wait for a part to be replaced."""
        return self._mended is not None

    @property
    def is_winding_down(self) -> bool:
        """Whether it takes no new streams, and ends soon."""
        return self.taken and self._rearranging.is_set()

    async def close(self) -> None:
        """End its processes here."""
        await self.ends.close()
        await self.drafts.close()

    def take(self, cast: Cast) -> None:
        """Its members are its own from now on, until `run` is over."""
        self._cast = cast
        self.taken = True
        self._rearranging.clear()

    async def run(self, reach: Reach) -> tuple[AtollError, float]:
        """Serve with the cast taken; returns what ended it, and the seconds it served.

        Where a part is lost and somebody takes it, sessions go on in a further epoch.
        """
        assert self._cast is not None
        reason, served_s = "the gateway is closing", 0.0
        try:
            self.reason = f"{self.name} is being formed"
            error = await self._form(self._cast, reach, FORM_S)
            while error is None:
                error, while_s = await self._serve()
                served_s += while_s
                self._quick = self._quick + 1 if while_s < STEADY_S else 0
                while (cast := self._mended) is not None:
                    self._ground.tell(f"{self.name} is mended: {error}")
                    error = await self._form(cast, reach, MEND_S)
                    if self._mended is cast:
                        # It stands again, or cannot be mended like this.
                        self._mended = None
            reason = error.problem
            return error, served_s
        finally:
            self._serving = False
            self.taken = False
            self._mended = None
            self._sound.clear()
            self._trouble = self._forming = self._formation = None
            if self._driver is not None:
                self._driver.down(reason)
                self._driver.parking.close()
            self._driver = None
            self._changed()

    async def _form(self, cast: Cast, reach: Reach, within_s: float) -> AtollError | None:
        """Have a ring stand with this cast; what went wrong, if it does not."""
        trouble: asyncio.Future[AtollError] = asyncio.get_running_loop().create_future()
        self._trouble = trouble
        try:
            async with asyncio.timeout(within_s) as self._forming, asyncio.TaskGroup() as tasks:
                forming = tasks.create_task(self._link(cast, reach), name="form-ring")
                trouble.add_done_callback(lambda _done: forming.cancel())
            return trouble.result() if trouble.done() else None
        except TimeoutError:
            obstacle = self._formation.obstacle if self._formation is not None else ""
            return RingDown(f"{self.name} could not be formed within {within_s:g} s{obstacle}")
        except ExceptionGroup as group:
            fault = next((e for e in group.exceptions if isinstance(e, AtollError)), None)
            if fault is None:
                raise
            return fault
        finally:
            self._forming = None

    async def _link(self, cast: Cast, reach: Reach) -> None:
        ground = self._ground
        if self._driver is None:
            ends = await self.ends.ready()
            has_drafts = await self.drafts.ready()
        if not all(ground.fleet.has(member.link.peer) for member in cast.members):
            raise RingDown("a node left before the ring was formed")
        self._cast = cast
        plan = self._plan = make_plan(
            reach.next_epoch(),
            ground.manifest,
            cast,
            ground.options,
            lenders=ground.fleet.everybody,
            gateway=(
                ground.identity.node_id,
                own_address(cast.members[-1], reach.transport, reach.link_port),
            ),
            goes_on=self._sound,
        )
        if self._driver is None:
            self.encoding = encoding_for(ground, cast, self.name)
            self._driver = new_driver(
                *(ground, plan, ends, self.number),
                config=config_for(ground, plan, cast, self.encoding, has_drafts=has_drafts),
                draft=self.drafts.run,
                fail=self._link_broke,
            )
        else:
            self._driver.move(plan)
        driver = self._driver
        self._formation = Formation(plan, cast.members, driver, ground.fleet, reach.transport)
        await self._formation.run(ground.identity)

    async def _serve(self) -> tuple[AtollError, float]:
        driver, trouble, plan = self._driver, self._trouble, self._plan
        assert driver and plan and trouble is not None  # noqa: PT018 - one thought
        if trouble.done():
            return trouble.result(), 0.0
        if self._sound:
            driver.up(first_is_new=not plan.stages[0].goes_on)
        else:
            driver.up()
        self._sound = {stage.node for stage in plan.stages}
        self._mended, self._serving = None, True
        self._ground.tell(f"{self.name} is complete: {self._shape()}")
        if problem := self._ground.classes.problem(plan.stages, self.players):
            self._ground.tell(f"{self.name}: exact answers may differ from before: {problem}")
        self._changed()
        began_s, options = time.monotonic(), self._ground.options
        async with asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(self._watch(driver), name="watch-progress"),
                tasks.create_task(self._wind_down(driver), name="wind-down"),
                tasks.create_task(driver.parking.run(), name="parcels"),
                tasks.create_task(age_resting(driver.tick, options.rest_s), name="age-resting"),
            ]
            # Shielded, as a cancelled wait would cancel the future too.
            error = await asyncio.shield(trouble)
            for task in background:
                task.cancel()
        return error, time.monotonic() - began_s

    async def _wind_down(self, driver: RingDriver) -> None:
        """Once it is to be rearranged: take no streams, give the old ones a while, and stop."""
        await self._rearranging.wait()
        self._serving = False
        self.reason = f"{self.name} is being rearranged"
        self._changed()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WIND_DOWN_S):
                await driver.wait_idle()
        self.fail(Rearranged(self.reason), may_mend=False)

    async def _watch(self, driver: RingDriver) -> None:
        """Give the ring up when a session makes no progress: somebody keeps its windows.

        While stages report new work a session may wait longer: it may be a long
        prompt on slow machines, or its turn may come late.
        """

        def work() -> tuple[int, ...]:
            return tuple(m.report.rows for m in self.players if m.report is not None)

        stall_s = self._ground.options.stall_s
        await wait_stalled(stall_s, lambda: driver.marks, work)
        if driver.at_ends:
            self.ends.replace()
        # Somebody keeps windows, and it is not known who.
        self.fail(RingDown(f"no answer came round the ring for {stall_s:g} s"), may_mend=False)

    def _shape(self) -> str:
        assert self._plan is not None
        inner = " → ".join(f"{s.name} [{s.first}, {s.last})" for s in self._plan.stages)
        return f"gateway → {inner} → gateway"

    # What others report

    def rearrange(self) -> None:
        """Its nodes are wanted elsewhere: end soon."""
        if self.taken:
            self._rearranging.set()

    def is_last(self, node: NodeId) -> bool:
        """Whether a node's data link closes this ring."""
        return self.taken and self._plan is not None and self._plan.stages[-1].node == node

    def on_data(self, link: DataLink) -> bool:
        """The last stage has dialled; False: this ring has no use for it."""
        if self._driver is None or self._formation is None:
            return False
        self._formation.take_last(link)
        return True

    def fetched(self) -> None:
        """A shard made progress: a ring that forms may take longer."""
        if self._forming is not None and not self._forming.expired():
            self._forming.reschedule(asyncio.get_running_loop().time() + FORM_S)

    def lost(self, node: NodeId, error: AtollError) -> None:
        """A node failed or left; that matters if it has a part."""
        if any(member.link.peer == node for member in self.players):
            self._sound.discard(node)
            self.fail(error)

    def unlinked(self, node: NodeId, error: AtollError) -> None:
        """A node has lost a link of its stage, which is sound."""
        if any(member.link.peer == node for member in self.players):
            self._link_broke(error)

    def session_failed(self, message: SessionFailed) -> None:
        """A stage of this ring refused a window, or a link did."""
        if self._driver is None or self._plan is None or message.epoch != self._plan.epoch:
            return
        log.warning("ring.session_failed code=%s problem=%s", message.code, message.problem)
        if message.session != NO_SESSION:
            self._driver.session_failed(message.session, message.seq, message.code, message.problem)

    def fail(self, error: AtollError, *, may_mend: bool = True) -> None:
        """The ring cannot go on as it is."""
        if self._trouble is None or self._trouble.done():
            return
        self._trouble.set_result(error)
        # Streams wait or end now, not when the task wakes.
        self._serving = False
        self.reason = error.problem
        cast = self._cast if may_mend and self._sound and self._quick < QUICK_MAX else None
        self._mended = self._mend(cast, self._sound) if cast is not None else None
        if self._driver is not None:
            if self._mended is not None:
                self._driver.pause()
            else:
                self._sound.clear()
                self._driver.down(error.problem)
        self._changed()

    def _link_broke(self, error: AtollError) -> None:
        trouble = self._trouble
        for member in self.players:
            # Where one is gone that is the cause; each link would find out in its own time.
            member.link.doubt()

        def tell() -> None:
            if self._trouble is trouble:
                self.fail(error)

        asyncio.get_running_loop().call_later(SYMPTOM_S, tell)

    def _ends_done(self, message: ItemsDone, payload: bytes) -> None:
        if self._driver is not None:
            self._driver.ends_done(message, payload)

    def _parcel_answered(self, answer: ParcelAnswer, data: bytes) -> None:
        if self._driver is not None:
            self._driver.parking.answered(answer, data)

    def _ends_gone(self, fault: EngineFault) -> None:
        self.fail(RingDown(f"the gateway's {fault.problem}"), may_mend=False)

    def _drafted(self, done: DraftDone) -> None:
        if self._driver is not None:
            self._driver.drafted(done)

    def _draft_gone(self, error: AtollError) -> None:
        self._ground.tell(f"{self.name} guesses without the draft model: {error.problem}")
        if self._driver is not None:
            self._driver.drafted(DraftGone())
