"""Drives the coordinator of one epoch: data links, the ends process, and sessions.

Like a node's driver it works in callbacks of the loop. Sessions are served to
the HTTP side through `Mailbox`es.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from atoll.domain.control import Plan
from atoll.domain.errors import AtollError, LinkFault, ProtocolFault, RingDown
from atoll.domain.generation import GenerateRequest
from atoll.domain.ids import SessionId
from atoll.domain.wire import DataMessage, Grant, Ping, Pong, Refused, Window
from atoll.engine.ends_client import EndsProcess
from atoll.engine.ends_messages import ItemsDone
from atoll.gateway.brakes import Brakes
from atoll.gateway.ends_items import answered, asked
from atoll.gateway.lap_watch import LapWatch
from atoll.gateway.laps import Laps
from atoll.gateway.mailbox import Mailbox
from atoll.gateway.outcomes import failure, rejection
from atoll.gateway.parking import EndsParking
from atoll.gateway.ring_link import RingLink
from atoll.gateway.ring_orders import returned, signed
from atoll.net.identity import Identity
from atoll.net.link import DataFrame, DataLimits, DataLink, LinkLost, UnusableFrame
from atoll.node.boundary_record import BoundaryRecord
from atoll.ring import comeback_messages as comeback
from atoll.ring import coordinator_messages as ring
from atoll.ring import parking_messages as parking
from atoll.ring.coordinator import Coordinator
from atoll.ring.line import Line
from atoll.ring.messages import GrantCredit, Granted, RecordLost, Refuse, WindowUnusable
from atoll.ring.orders import RingOrder
from atoll.ring.pace import Pace
from atoll.ring.parking import ParkingLot

log = logging.getLogger(__name__)

GRANT_BATCH = 16
"""Grants are gathered up to so many frames, as in a node's driver."""
REFUSED_MAX = 4096
"""Frames of the last stage that may be refused before its link ends."""


class RingDriver:
    """The ring at the gateway, from epoch to epoch while its sessions go on.

    Args:
        plan: The epoch's plan.
        machine: The coordinator.
        identity: The gateway's; signs cancels and releases.
        ends: The ends process, loaded; `ends_done` must be given its answers.
        ends_parking: Its parcels.
        record: Folder for what was sent and has no room in memory; None: nowhere.
        draft: Has the draft model guess; `drafted` must be given its answers.
        fail: Called once when the ring cannot go on, with the reason.
    """

    def __init__(
        self,
        plan: Plan,
        machine: Coordinator,
        identity: Identity,
        ends: EndsProcess,
        ends_parking: EndsParking,
        *,
        record: Path | None,
        draft: Callable[[tuple[ring.DraftItem, ...]], None],
        fail: Callable[[AtollError], None],
    ) -> None:
        self._plan = plan
        self._identity = identity
        self._ends = ends
        self.parking = ends_parking
        self._draft = draft
        self._fail = fail
        self._machine = machine
        self._record = BoundaryRecord(plan.n_embd, self._record_lost, folder=record)
        self._grant_at = min(GRANT_BATCH, machine.config.return_credits // 2)
        self._limits = DataLimits(plan.n_embd, plan.rows_max, machine.config.credits)
        self._first: DataLink | None = None
        self._last: DataLink | None = None
        self._mail: dict[SessionId, Mailbox] = {}
        self._batch = 0
        self._items: tuple[ring.EndsItem, ...] = ()
        self._grants = 0
        self._refused = 0
        self._up = False
        self._over = False
        self._idle = asyncio.Event()
        self.brakes = Brakes(
            lambda session, held: self._handle(ring.Hold(session, held)),
            lambda session: self.cancel(session, "its client did not read"),
        )
        self.laps = Laps()
        self._watch = LapWatch(self.laps)

    @property
    def active(self) -> int:
        """Sessions that hold a slot."""
        return self._machine.active

    @property
    def waiting(self) -> int:
        """Sessions that wait for one."""
        return self._machine.waiting

    @property
    def line(self) -> Line:
        """Who waits for a slot."""
        return self._machine.line

    async def wait_idle(self) -> None:
        """Wait until no session runs or waits."""
        while self.active or self.waiting:
            self._idle.clear()
            await self._idle.wait()

    def cached(self, request: GenerateRequest) -> int:
        """Tokens of a request's prompt that lie in this ring's caches."""
        return self._machine.shared_with(request)

    @property
    def pace(self) -> Pace:
        """What a loop takes, and how guesses fared."""
        return self._machine.pace

    @property
    def marks(self) -> dict[SessionId, tuple[int, int, int]]:
        """Where each session stands; what stays the same for long is stuck."""
        return self._machine.marks()

    @property
    def at_ends(self) -> bool:
        """Whether the ends process has yet to answer."""
        return bool(self._items)

    @property
    def linked(self) -> bool:
        """Whether both data links stand."""
        return self._first is not None and self._last is not None

    @property
    def first(self) -> DataLink | None:
        """The link that windows leave by, once it stands."""
        return self._first

    def take_first(self, link: DataLink) -> None:
        """Send windows to the first stage over this link."""
        if self._over:
            link.close(LinkFault("the ring is being formed anew"))
            return
        self._first = link
        link.start(RingLink(self, "first", self._from_first, link), self._limits)

    def take_last(self, link: DataLink) -> None:
        """Take windows from the last stage over this link."""
        if self._over:
            link.close(LinkFault("the ring is being formed anew"))
            return
        if self._last is not None:
            self._last.close(LinkFault("the last stage opened another link"))
        self._last = link
        link.start(RingLink(self, "last", self._from_last, link), self._limits)

    def is_last(self, link: DataLink) -> bool:
        """Whether windows come back over this link."""
        return self._last is link

    def up(self, *, first_is_new: bool | None = None) -> None:
        """Every stage is ready: begin to take sessions.

        Args:
            first_is_new: After `pause`: whether the first stage lacks what it was sent.
        """
        self._up = True
        goes_on = first_is_new is not None
        self._handle(ring.RingUp(self._plan.epoch, goes_on, bool(first_is_new)))

    def pause(self) -> None:
        """A part of the ring is lost and will be replaced: sessions wait."""
        self._handle(comeback.RingPaused())
        self._up = False
        self._watch.clear()
        self._grants = 0
        self._drop_links()

    def move(self, plan: Plan) -> None:
        """Serve a newer plan over links to come; after `pause`."""
        self._plan = plan

    def down(self, problem: str) -> None:
        """End every session with the reason and close the links."""
        if not self._over:
            self._handle(ring.RingDown(problem))
        self._over = True
        self._drop_links()
        self._record.close()
        for mailbox in self._mail.values():
            mailbox.fail(RingDown(problem, hint="try again shortly"))
        self._mail.clear()
        self.brakes.close()

    def _drop_links(self) -> None:
        links, self._first, self._last = (self._first, self._last), None, None
        for link in filter(None, links):
            link.close()

    def _record_lost(self, session: SessionId) -> None:  # not within the machine's effects
        asyncio.get_running_loop().call_soon(self._handle, RecordLost(session))

    def submit(
        self,
        session: SessionId,
        request: GenerateRequest,
        mailbox: Mailbox,
        *,
        again: bool = False,
    ) -> None:
        """Begin a session, perhaps again; everything it gives goes to `mailbox`.

        Raises:
            RingDown: The ring of this epoch is over.
        """
        if self._over:
            raise RingDown("the ring is being rebuilt", hint="try again shortly")
        self._mail[session] = mailbox
        self.parking.prompt_waits(session, len(request.known))
        self._handle(ring.Submit(session, request, again))

    def cancel(self, session: SessionId, reason: str) -> None:
        """Nobody wants the rest of the session."""
        if session in self._mail and not self._over:
            self._handle(ring.CancelSession(session, reason))

    def session_failed(self, session: SessionId, seq: int, code: str, problem: str) -> None:
        """A stage reported that it refused a window of the session."""
        self._handle(ring.SessionRefused(session, seq, code, problem))

    def _from_first(self, message: DataMessage, payload: bytes) -> None:
        del payload  # what the first stage may say carries none
        match message:
            case Grant(frames):
                self._handle(Granted(frames))
            case Refused(session, seq, code, problem):
                self._handle(ring.SessionRefused(session, seq, code, problem))
            case _:
                raise ProtocolFault(f"the first stage sent a {type(message).__name__}")

    def _from_last(self, message: DataMessage, payload: bytes) -> None:
        match message:
            case Window():
                lap_s = self._watch.back(message)
                self._handle(ring.WindowReturned(message, payload, lap_s))
            case Grant() | Refused() | Ping() | Pong():
                raise ProtocolFault(f"the last stage sent a {type(message).__name__}")
            case _:
                event = returned(message, self._identity)
                if event is not None:
                    self._handle(event)

    def unusable(self, side: str, fault: UnusableFrame) -> None:
        """A frame that is whole but wrong: only the session of a window ends."""
        if side != "last" or fault.window is None:
            raise fault
        self._handle(WindowUnusable(fault.window, "frame", fault.problem))

    def link_closed(self, side: str, link: DataLink | None, reason: LinkFault | None) -> None:
        """A data link is gone; the ring cannot go on without it."""
        if link is None or link not in (self._first, self._last):
            return
        if side == "last" and not self._up and isinstance(reason, LinkLost):
            # Dialled for an older plan; it dials again for this one.
            self._last = None
        elif not self._over:
            self._fail(RingDown(f"the link to the {side} stage broke: {reason or 'closed'}"))

    def ends_done(self, message: ItemsDone, payload: bytes) -> None:
        """The ends process has answered; perhaps a batch of an epoch that is over."""
        if self._over or message.batch != self._batch:
            return
        items, self._items = self._items, ()
        results = answered(items, message, payload)
        self._watch.answered(items, message)
        self._handle(ring.EndsDone(results, message.engine_s + message.sampling_s))
        self._watch.note()

    def tick(self) -> None:
        """Conversations at rest grow older."""
        parked = self._machine.config.parking
        self._handle(parking.Tick(self.parking.rates(parked.rates) if parked else None))

    @property
    def lot(self) -> ParkingLot:
        """The conversations that are parked."""
        return self._machine.lot

    def drafted(self, event: ring.DraftDone | ring.DraftGone) -> None:
        """The draft model has guessed, or is gone."""
        self._handle(event)

    def _handle(self, event: ring.CoordinatorEvent) -> None:
        if self._over:
            return
        flight: list[DataFrame] = []
        items: tuple[ring.EndsItem, ...] = ()
        for effect in self._machine.handle(event):
            match effect:
                case comeback.SendRecord(window):
                    flight += self._sent_before(window)
                case ring.Send(window, payload):
                    self._record.keep(window, bytes(payload))
                    flight.append((window, bytes(payload)))
                    self._watch.leaves(window)
                case ring.RunEnds():
                    items = effect.items
                case ring.RunDraft(drafts):
                    self._draft(drafts)
                case ring.OpenEnds() | ring.CloseEnds():
                    self._tell_ends(effect)
                case parking.ParkEnds() | parking.LoadEnds() | parking.DropEndsParcel():
                    self.parking.carry_out(effect, self._handle)
                case GrantCredit(frames):
                    self._grants += frames
                case _ if isinstance(effect, RingOrder):
                    flight.append((signed(effect, self._plan.epoch, self._identity), b""))
                case _:
                    self._tell_session(effect)
        self._carry_out(flight, items)

    def _sent_before(self, window: Window) -> list[DataFrame]:
        if (rows := self._record.rows(window)) is not None:
            return [(window, rows)]
        # The rejoin behind it finds a gap; its credit was not used.
        asyncio.get_running_loop().call_soon(self._handle, Granted(1))
        return []

    def _carry_out(self, flight: list[DataFrame], items: tuple[ring.EndsItem, ...]) -> None:
        if not (self.active or self.waiting):
            self._idle.set()
        if flight and self._first is not None:
            self._first.send_flight(flight)
        if self._grants >= self._grant_at and self._last is not None:
            self._last.send(Grant(self._grants))
            self._grants = 0
        if items:
            # Last, as it wakes the engine's threads, which take this core.
            self._run_ends(items)

    def _tell_ends(self, effect: ring.OpenEnds | ring.CloseEnds) -> None:
        if isinstance(effect, ring.OpenEnds):
            self._ends.open(effect.slot, effect.request)
            return
        self._ends.close_slot(effect.slot, keep=effect.keep)
        if not effect.keep:
            self._record.drop(effect.session)
        self._watch.forget(effect.session)

    def _tell_session(self, effect: ring.CoordinatorEffect) -> None:
        match effect:
            case ring.Admitted(session, cached) | parking.Reused(session, cached):
                self.parking.prompt_enters(session, cached)
            case ring.Emit(session, sampled):
                cached = self.parking.prompt_over(session, is_computed=True)
                if (mailbox := self._mail.get(session)) is not None:
                    mailbox.put(replace(sampled, cached=cached) if cached else sampled)
                    self.brakes.filled(session, mailbox)
            case ring.Finished(session, _):
                self._mail.pop(session, None)
                self.brakes.over(session)
            case ring.Rejected(session, code, problem, retry_after_s):
                self._fail_session(session, rejection(code, problem, retry_after_s))
            case ring.Failed(session, code, problem, _):
                self._fail_session(session, failure(code, problem))
            case Refuse(session, seq, code, problem):
                self._refused += 1
                if self._refused > REFUSED_MAX:
                    raise ProtocolFault(f"{REFUSED_MAX} of its frames were refused: {problem}")
                log.warning("ring.refused session=%d seq=%d code=%s", session, seq, code)
                if self._last is not None:
                    self._last.send(Refused(session, seq, code, problem))

    def _fail_session(self, session: SessionId, error: AtollError) -> None:
        mailbox = self._mail.pop(session, None)
        self.brakes.over(session)
        self.parking.prompt_over(session, is_computed=False)
        if mailbox is not None:
            mailbox.fail(error)

    def _run_ends(self, items: tuple[ring.EndsItem, ...]) -> None:
        self._items = items
        self._watch.called()
        self._batch = self._ends.run(*asked(items))
