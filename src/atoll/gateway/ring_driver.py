"""Drives the coordinator of one epoch: data links, the ends process, and sessions.

Like a node's driver it works in callbacks of the loop. Sessions are served to
the HTTP side through `Mailbox`es.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace

from atoll.domain.control import Plan
from atoll.domain.errors import AtollError, LinkFault, ProtocolFault, RingDown
from atoll.domain.generation import GenerateRequest
from atoll.domain.ids import SessionId
from atoll.domain.wire import DataMessage, Grant, Ping, Pong, Refused, Window
from atoll.engine.ends_client import EndsProcess
from atoll.engine.ends_messages import ItemsDone
from atoll.gateway.brakes import Brakes
from atoll.gateway.ends_items import answered, asked
from atoll.gateway.laps import Laps
from atoll.gateway.mailbox import Mailbox
from atoll.gateway.outcomes import failure, rejection
from atoll.gateway.parking import EndsParking
from atoll.gateway.ring_link import RingLink
from atoll.gateway.ring_orders import returned, signed
from atoll.net.identity import Identity
from atoll.net.link import DataFrame, DataLimits, DataLink, LinkLost, UnusableFrame
from atoll.ring import coordinator_messages as ring
from atoll.ring import parking_messages as parking
from atoll.ring.coordinator import Coordinator
from atoll.ring.line import Line
from atoll.ring.messages import GrantCredit, Granted, Refuse, WindowUnusable
from atoll.ring.orders import RingOrder
from atoll.ring.pace import Pace
from atoll.ring.parking import ParkingLot

log = logging.getLogger(__name__)

GRANT_BATCH = 16
"""Grants are gathered up to so many frames, as in a node's driver."""
REFUSED_MAX = 4096
"""Frames of the last stage that may be refused before its link ends."""


class RingDriver:
    """One epoch of the ring at the gateway.

    Args:
        plan: The epoch's plan.
        machine: The coordinator.
        identity: The gateway's; signs cancels and releases.
        ends: The ends process, loaded; `ends_done` must be given its answers.
        ends_parking: Its parcels.
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
        self._grant_at = min(GRANT_BATCH, machine.config.return_credits // 2)
        self._limits = DataLimits(plan.n_embd, plan.rows_max, machine.config.credits)
        self._first: DataLink | None = None
        self._last: DataLink | None = None
        self._mail: dict[SessionId, Mailbox] = {}
        self._batch = 0
        self._items: tuple[ring.EndsItem, ...] = ()
        self._stage_us: dict[SessionId, int] = {}
        self._left_s: dict[SessionId, float] = {}
        self._sent_s: dict[SessionId, dict[int, float]] = {}
        self._grants = 0
        self._refused = 0
        self._called_s = self._answered_s = 0.0
        self._up = False
        self._over = False
        self._idle = asyncio.Event()
        self.brakes = Brakes(
            lambda session, held: self._handle(ring.Hold(session, held)),
            lambda session: self.cancel(session, "its client did not read"),
        )
        self.laps = Laps()

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
        link.start(RingLink(self, "first", self._from_first), self._limits)

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

    def up(self) -> None:
        """Every stage is ready: begin to take sessions."""
        self._up = True
        self._handle(ring.RingUp(self._plan.epoch))

    def down(self, problem: str) -> None:
        """End every session with the reason and close the links."""
        if not self._over:
            self._handle(ring.RingDown(problem))
        self._over = True
        for link in (self._first, self._last):
            if link is not None:
                link.close()
        for mailbox in self._mail.values():
            mailbox.fail(RingDown(problem, hint="try again shortly"))
        self._mail.clear()
        self.brakes.close()

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

    # What links and the ends bring

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
                self._stage_us[message.session] = message.engine_us
                sent_s = self._sent_s.get(message.session, {}).pop(message.seq, None)
                lap_s = time.perf_counter() - sent_s if sent_s is not None else 0.0
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
        if link is not None and not self.is_last(link):
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
        now_s = time.perf_counter()
        items, self._items = self._items, ()
        results = answered(items, message, payload)
        left_s = [self._left_s.pop(item.session, None) for item in items]
        call_s, self._answered_s = now_s - self._called_s, now_s
        self._handle(ring.EndsDone(results, message.engine_s + message.sampling_s))
        self._note_laps(items, left_s, message, call_s)

    def tick(self) -> None:
        """Conversations at rest grow older."""
        config = self._machine.config.parking
        self._handle(parking.Tick(self.parking.rates(config.rates) if config else None))

    @property
    def lot(self) -> ParkingLot:
        """The conversations that are parked."""
        return self._machine.lot

    def drafted(self, event: ring.DraftDone | ring.DraftGone) -> None:
        """The draft model has guessed, or is gone."""
        self._handle(event)

    def _note_laps(
        self,
        items: tuple[ring.EndsItem, ...],
        left_s: list[float | None],
        message: ItemsDone,
        call_s: float,
    ) -> None:
        """Split the steps that ended with this answer into engines and the rest."""
        for item, began_s in zip(items, left_s, strict=True):
            if not isinstance(item, ring.TailItem):
                continue
            stages_s = self._stage_us.pop(item.session, 0) / 1e6
            if not item.sample or item.rows != 1 or began_s is None:
                continue
            self.laps.note(
                lap_s=self._answered_s - began_s,
                stages_s=stages_s,
                ends_s=message.engine_s,
                sampling_s=message.sampling_s,
                ends_call_s=call_s,
            )

    # What the machine wants

    def _handle(self, event: ring.CoordinatorEvent) -> None:
        if self._over:
            return
        flight: list[DataFrame] = []
        items: tuple[ring.EndsItem, ...] = ()
        for effect in self._machine.handle(event):
            match effect:
                case ring.Send(window, payload):
                    flight.append((window, bytes(payload)))
                    sent_s = self._sent_s.setdefault(window.session, {})
                    sent_s[window.seq] = time.perf_counter()
                    if window.rows == 1:
                        # From the answer on, so that the coordinator's own time counts.
                        self._left_s[window.session] = self._answered_s
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
        self._stage_us.pop(effect.session, None)
        self._left_s.pop(effect.session, None)
        self._sent_s.pop(effect.session, None)

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
        self._called_s = time.perf_counter()
        self._batch = self._ends.run(*asked(items))
