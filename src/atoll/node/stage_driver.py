"""Drives one stage: links and stage process in, effects out.

Everything happens in callbacks of the loop, without tasks or queues: a window
comes off the upstream link, the machine decides, the stage process computes,
and the result leaves on the downstream link.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from atoll.domain.control import Plan, SessionFailed
from atoll.domain.errors import LinkFault, ProtocolFault
from atoll.domain.ids import SessionId
from atoll.domain.wire import (
    DataMessage,
    Grant,
    Ping,
    Pong,
    Refused,
    Window,
)
from atoll.engine.stage_client import StageProcess
from atoll.engine.stage_messages import Computed, Item
from atoll.net.frames import NUMBER_LIMIT
from atoll.net.link import DataFrame, DataLimits, DataLink, LinkLost, UnusableFrame
from atoll.node.boundary_record import BoundaryRecord
from atoll.node.parcels import Parcels
from atoll.node.stage_complaints import Complaints
from atoll.node.stage_counters import Counters
from atoll.node.stage_links import Downstream, Upstream
from atoll.node.stage_orders import carry_out, event_of
from atoll.ring import stage_messages as ring
from atoll.ring.messages import (
    GrantCredit,
    Granted,
    ItemFailed,
    RecordLost,
    Refuse,
    WindowUnusable,
    credits_for,
)
from atoll.ring.stage import Stage

log = logging.getLogger(__name__)

GRANT_BATCH = 16
"""Grants are gathered up to so many frames: each message wakes the upstream, which
has a whole flight's credits left even so (`credits_for`)."""

Leaving = (
    ring.Forward
    | ring.ForwardRecord
    | ring.ForwardCancel
    | ring.ForwardRelease
    | ring.ForwardResume
    | ring.ForwardRejoin
    | ring.ForwardDiscard
)


class StageDriver:
    """One stage of one plan, from its first window to its end.

    Args:
        plan: The plan it belongs to.
        process: The stage process, loaded or loading.
        parcels: Its parcels.
        record: Folder for what was sent and has no room in memory; None: nowhere.
        report: Told of every session that failed here.
        unlinked: Told when a link is gone: the stage is sound and waits for the next plan.
    """

    def __init__(
        self,
        plan: Plan,
        process: StageProcess,
        parcels: Parcels,
        *,
        record: Path | None,
        report: Callable[[SessionFailed], None],
        unlinked: Callable[[LinkFault], None],
    ) -> None:
        self._process, self._parcels = process, parcels
        self._unlinked = unlinked
        self._complaints = Complaints(plan, lambda: self._upstream, report)
        self._record = BoundaryRecord(plan.n_embd, self._record_lost, folder=record)
        credits = credits_for(plan.n_slots)
        config = ring.StageConfig(
            plan.n_slots,
            plan.context,
            plan.rows_max,
            credits=credits,
            downstream_credits=credits,
            queue_max=credits,
            outbox_max=credits,
        )
        self._machine = Stage(config, plan.epoch)
        self._grant_at = min(GRANT_BATCH, config.credits // 2)
        self._limits = DataLimits(plan.n_embd, plan.rows_max, credits)
        self._upstream: DataLink | None = None
        self._downstream: DataLink | None = None
        self._grants = 0
        self._batch = 0
        self._closed = False
        self._heard = False
        self._linked = asyncio.Event()
        self._engine_us = 0
        self.counters = Counters()

    @property
    def sessions(self) -> int:
        """Sessions that hold a slot here."""
        return self._machine.sessions

    @property
    def downstream(self) -> DataLink | None:
        """Where results go, once it stands."""
        return self._downstream

    @property
    def is_computing(self) -> bool:
        """Whether the engine has yet to answer."""
        return self._machine.running

    async def wait_linked(self) -> None:
        """Wait until both links stand."""
        await self._linked.wait()

    def take_upstream(self, link: DataLink) -> None:
        """Serve the upstream's link; an older one of the same neighbour is closed."""
        if self._closed:
            link.close(LinkFault("the stage is over", hint="try again shortly"))
            return
        if self._upstream is not None:
            self._upstream.close(LinkFault("the upstream opened another link"))
        self._upstream, self._heard = link, False
        link.start(Upstream(self, link), self._limits)
        self._note_links()

    def take_downstream(self, link: DataLink) -> None:
        """Send results to this link from now on."""
        if self._closed:
            link.close(LinkFault("the stage is over"))
            return
        self._downstream = link
        link.start(Downstream(self, link), self._limits)
        self._note_links()

    def _note_links(self) -> None:
        if self._upstream is not None and self._downstream is not None:
            self._linked.set()

    def is_current(self, link: DataLink) -> bool:
        """Whether a link is one of the two that count."""
        return link in (self._upstream, self._downstream)

    def move(self, plan: Plan, *, goes_on: bool, next_is_new: bool) -> None:
        """Serve a newer plan over links to come; the old ones are closed.

        Args:
            plan: The plan.
            goes_on: What is held of sessions stays.
            next_is_new: The downstream lacks what it was sent.
        """
        self._complaints.plan = plan
        self.counters.epoch_raised()
        # Who heard of the plan before us may have dialled already.
        early = None if self._heard else self._upstream
        self._drop_links(early)
        self._upstream = early
        self._grants = 0
        if not goes_on:
            self._record.clear()
        self._handle(ring.EpochRaised(plan.epoch, goes_on, next_is_new))

    def close(self) -> None:
        """Close both links; nothing is computed or sent afterwards."""
        self._closed = True
        self._drop_links()
        self._record.close()

    def _drop_links(self, kept: DataLink | None = None) -> None:
        links = (self._upstream, self._downstream)
        self._upstream = self._downstream = None
        self._heard = False
        self._linked.clear()
        for link in links:
            if link is not None and link is not kept:
                link.close()

    def from_upstream(self, message: DataMessage, payload: bytes) -> None:
        """A frame of the upstream neighbour."""
        self._heard = True
        match message:
            case Window():
                start_s = time.perf_counter()
                if message.replay:
                    self.counters.replay_came(message.session, message.rows)
                self._handle(ring.WindowArrived(message, payload))
                if message.rows == 1:
                    self.counters.node_s += time.perf_counter() - start_s
            case Grant() | Refused() | Ping() | Pong():
                raise ProtocolFault(f"the upstream sent a {type(message).__name__}")
            case _:
                if self._complaints.is_ordered(message):
                    self._handle(event_of(message))

    def unusable(self, fault: UnusableFrame) -> None:
        """A frame of the upstream that is whole but wrong.

        Only its own session ends. A frame that names none is answered and
        reported, and with too many of them the link ends.
        """
        self._heard = True
        if fault.window is not None:
            self._handle(WindowUnusable(fault.window, "frame", fault.problem))
            return
        self._complaints.nameless(fault)

    def from_downstream(self, message: DataMessage) -> None:
        """A frame of the downstream neighbour."""
        match message:
            case Grant(frames):
                self._handle(Granted(frames))
            case Refused():
                # The stage that refused has told the gateway, which ends the session.
                log.warning(
                    "stage.refused_downstream session=%d seq=%d code=%s",
                    message.session,
                    message.seq,
                    message.code,
                )
            case _:
                raise ProtocolFault(f"the downstream sent a {type(message).__name__}")

    def link_closed(self, side: str, reason: LinkFault | None) -> None:
        """One of the links is gone; without both, the stage is of no use."""
        if side == "upstream" and not self._heard and isinstance(reason, LinkLost):
            # Dialled for an older plan; it dials again for this one.
            self._upstream = None
            self._linked.clear()
        elif not self._closed:
            self._drop_links()
            self._unlinked(LinkFault(f"the {side} link is gone: {reason or 'closed by us'}"))

    def _record_lost(self, session: SessionId) -> None:
        # Not from within the machine's own effects.
        asyncio.get_running_loop().call_soon(self._handle, RecordLost(session))

    def computed(self, message: Computed, payload: bytes) -> None:
        """The stage process has answered the running batch."""
        if self._closed:
            return
        now_s = time.perf_counter()
        was_step = self.counters.done(message)
        self._engine_us = round(1e6 * message.busy_s)
        outputs: list[bytes | ItemFailed] = []
        at = 0
        for problem, size in zip(message.problems, message.sizes, strict=True):
            outputs.append(ItemFailed(problem) if problem else payload[at : at + size])
            at += size
        self._handle(ring.BatchDone(tuple(outputs)))
        if was_step:
            self.counters.node_s += time.perf_counter() - now_s

    def _handle(self, event: ring.StageEvent) -> None:
        if self._closed:
            return
        flight: list[DataFrame] = []
        batch: ring.RunBatch | None = None
        for effect in self._machine.handle(event):
            match effect:
                case ring.RunBatch():
                    batch = effect
                case GrantCredit(frames):
                    self._grants += frames
                case ring.DropSlot(slot):
                    self._process.drop(slot)
                case ring.DropRecord(session):
                    self._record.drop(session)
                case Refuse():
                    self._complaints.refuse(effect)
                case ring.TakeParcel() | ring.FetchParcel() | ring.LoadParcel() | ring.DropParcel():
                    carry_out(effect, self._parcels, self._handle)
                case _:
                    flight += self._frames(effect)
        if flight and self._downstream is not None:
            self._downstream.send_flight(flight)
        if self._grants >= self._grant_at and self._upstream is not None:
            self._upstream.send(Grant(self._grants))
            self._grants = 0
        if batch is not None:
            # Last, as it wakes the engine's threads, which take this core.
            self._run(batch)

    def _frames(self, effect: Leaving) -> list[DataFrame]:
        """What an effect sends on."""
        match effect:
            case ring.Forward(window, payload):
                self._record.keep(window, bytes(payload))
                spent_us = min(window.engine_us + self._engine_us, NUMBER_LIMIT - 1)
                return [(replace(window, engine_us=spent_us), bytes(payload))]
            case ring.ForwardRecord(window):
                return self._sent_before(window)
            case ring.ForwardRelease(order):
                self._record.drop(order.session)
                self.counters.replay_over(order.session)
                return [(order, b"")]
            case ring.ForwardRejoin(order):
                self.counters.replay_over(order.session)
                return [(order, b"")]
            case ring.ForwardCancel(order) | ring.ForwardResume(order) | ring.ForwardDiscard(order):
                return [(order, b"")]

    def _sent_before(self, window: Window) -> list[DataFrame]:
        rows = self._record.rows(window)
        if rows is None:  # the rejoin behind it finds a gap; its credit was not used
            asyncio.get_running_loop().call_soon(self._handle, Granted(1))
        return [] if rows is None else [(window, rows)]

    def _run(self, batch: ring.RunBatch) -> None:
        self._batch += 1
        items = tuple(Item(it.slot, it.keep, it.rows, it.exact, it.encoding) for it in batch.items)
        rows = sum(item.rows for item in items)
        self.counters.began(len(items), rows)
        self._process.compute(self._batch, items, [bytes(it.payload) for it in batch.items])
