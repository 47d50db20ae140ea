"""Coordinator: the gateway's side of a ring, from prompt to last token.

Pure: no clock, socket or task. The driver passes events and carries out the
returned effects in order. `gateway` drives it live; `sim` from a seeded heap.

A session waits for a slot, enters its prompt in chunks that overlap on their
way round, then decodes: a window comes back, the ends run the last layers,
sample, run the first layers on the new token, and the next window leaves. With
guesses at the next tokens several windows of a session are on their way at once;
those behind a wrong guess are cancelled.
"""

from __future__ import annotations

from collections.abc import Callable

from atoll.domain.generation import GenerateRequest
from atoll.domain.ids import Epoch, SessionId, Slot
from atoll.domain.wire import Window
from atoll.ring.admission import Prefill, line_up
from atoll.ring.comeback import Comeback
from atoll.ring.comeback_messages import RejoinReturned, RingPaused
from atoll.ring.coordinator_config import CoordinatorConfig
from atoll.ring.coordinator_messages import (
    CancelSession,
    CoordinatorEffect,
    CoordinatorEvent,
    DraftDone,
    DraftGone,
    EndsDone,
    EndsFailed,
    Failed,
    Forget,
    Hold,
    Rejected,
    ReleaseReturned,
    RingDown,
    RingUp,
    SendCancel,
    SessionRefused,
    Submit,
    WindowReturned,
)
from atoll.ring.departures import Departures
from atoll.ring.draft_turns import DraftTurns
from atoll.ring.drafting import Drafter, Lookups
from atoll.ring.ends_turns import EndsTurns
from atoll.ring.line import Line
from atoll.ring.messages import Fault, GrantCredit, Granted, RecordLost, Refuse
from atoll.ring.messages import WindowUnusable as Unusable
from atoll.ring.pace import Pace
from atoll.ring.parking import ParkingLot
from atoll.ring.parking_messages import (
    DiscardReturned,
    EndsLoadedParcel,
    ParkingEvent,
    ResumeReturned,
    Tick,
)
from atoll.ring.results import EndsResults
from atoll.ring.returns import Returned, Returns
from atoll.ring.session import Session
from atoll.ring.tenants import Tenants

RingEvent = Granted | RecordLost | Forget | RingUp | RingPaused | RingDown


class Coordinator:
    """The machine at the gateway; change it only through `handle`.

    It begins with the ring down and takes sessions after `RingUp`.
    """

    def __init__(
        self,
        config: CoordinatorConfig,
        drafter: Callable[[GenerateRequest], Drafter] | None = None,
    ) -> None:
        self.config = config
        self.pace = Pace(config.parallel)
        self._tenants = Tenants(config, drafter or Lookups(), self.pace)
        self.epoch: Epoch | None = None
        self.line = Line()
        self._prefill = Prefill(config)
        self._departures = Departures(config, self.pace, self._tenants.recorded)
        self._returns = Returns(config.return_credits)
        self._comeback = Comeback(self._tenants, self._prefill, self._departures, self._returns)
        self._due: RingUp | None = None
        self._turns = EndsTurns(
            config, self._tenants, self._prefill, self._departures, self._returns
        )
        self._results = EndsResults(self, self._turns, self._tenants, self._departures)
        self._drafts = DraftTurns(config, self.pace)
        self.effects: list[CoordinatorEffect] = []
        """What is to be done for the event that is being taken."""

    @property
    def active(self) -> int:
        """Sessions that hold a slot, those being released included."""
        return self._tenants.active

    @property
    def waiting(self) -> int:
        """Sessions that wait for a slot."""
        return len(self.line)

    @property
    def resting(self) -> int:
        """Ended sessions whose caches are kept."""
        return self._tenants.resting

    @property
    def lot(self) -> ParkingLot:
        """The parcels, to look at."""
        return self._tenants.parked.lot

    def shared_with(self, request: GenerateRequest) -> int:
        """Tokens of a request's prompt that an ended session left in the caches."""
        return self._tenants.shared_with(request)

    @property
    def departures(self) -> Departures:
        """Credits, lanes and ready windows, to look at."""
        return self._departures

    @property
    def prefill(self) -> Prefill:
        """Prompts that enter, to look at."""
        return self._prefill

    @property
    def decoding(self) -> int:
        """Sessions whose first token was sampled and that go on."""
        return sum(s.decoding and not s.held for s in self._tenants.by_id.values())

    @property
    def returns(self) -> Returns:
        """Returned windows and the credits given, to look at."""
        return self._returns

    def holders(self) -> dict[Slot, SessionId]:
        """Which session holds which slot."""
        return {session.slot: session.id for session in self._tenants.by_id.values()}

    def marks(self) -> dict[SessionId, tuple[int, int, int]]:
        """Of each session that is to move on, numbers of which one changes when it does."""
        moving = [s for s in self._tenants.under_way if not s.held]
        return {s.id: (s.next_seq, s.sampled, len(s.out)) for s in moving}

    def handle(self, event: CoordinatorEvent) -> list[CoordinatorEffect]:
        """Take one event; return what the driver has to do, in this order.

        Raises:
            ValueError: A session id is submitted twice, or an epoch goes back.
        """
        self.effects = []
        match event:
            case Submit():
                self._submit(event)
            case CancelSession(session, reason):
                self._cancel(session, reason)
            case Hold(session, held):
                self._tenants.hold(session, held)
            case EndsDone() | EndsFailed():
                self._results.take(event)
                self._go_on_if_due()
            case DraftDone() | DraftGone():
                self._drafted(event)
            case WindowReturned() | Unusable():
                self._window(event)
            case SessionRefused(session, _, code, problem):
                self._fail_if_live(session, Fault(code, problem))
            case (
                ReleaseReturned()
                | RejoinReturned()
                | ResumeReturned()
                | DiscardReturned()
                | EndsLoadedParcel()
                | Tick()
            ):
                self._returned(event)
            case _:
                self._ring(event)
        if self.epoch is not None:
            self._admit()
            self._work(self.epoch)
            grants = self._returns.take_grants()
            if grants:
                self.effects.append(GrantCredit(grants))
        elif self._comeback.is_paused:
            self.effects = self._comeback.hold_back(self.effects)
        return self.effects

    def _drafted(self, event: DraftDone | DraftGone) -> None:
        if isinstance(event, DraftDone):
            self._drafts.end(event.guesses, event.took_s)
        else:
            self._drafts.gone()

    def _work(self, epoch: Epoch) -> None:
        """Have everything leave and begin that can."""
        self.pace.streams = decoding = self.decoding
        self.effects += self._departures.leave(epoch, decoding)
        if (drafts := self._drafts.begin(self._tenants.by_id.values())) is not None:
            self.effects.append(drafts)
        if (work := self._turns.begin()) is not None:
            self.effects.append(work)

    # Sessions come and go

    def _submit(self, submit: Submit) -> None:
        session = submit.session
        known = self._tenants.client(session) is not None
        if known or any(w.session == session for w in self.line):
            raise ValueError(f"session {session} was submitted twice")
        self.effects += line_up(
            *(submit, self.line, self.config),
            up=self.epoch is not None or self._comeback.is_paused,
            active=self.active if self.epoch is not None else self.config.n_slots,
        )

    def _reject(self, session: SessionId, code: str, problem: str) -> None:
        self.effects.append(Rejected(session, code, problem, self.config.retry_after_s))

    def _admit(self) -> None:
        """Give slots to those whose turn it is."""
        while self._tenants.has_room and self.line:
            session, effects = self._tenants.admit(self.line.head(), len(self.line))
            self.effects += effects
            if session is None:
                break
            self.line.popleft()
            if session.coming is None:
                self._prefill.add(session)

    def _cancel(self, session_id: SessionId, reason: str) -> None:
        waiting = next((w for w in self.line if w.session == session_id), None)
        if waiting is not None:
            self.line.remove(waiting)
            self.effects.append(Rejected(session_id, "cancelled", reason))
        else:
            session = self._tenants.client(session_id)
            if session is not None:
                self.fail(session, Fault("cancelled", reason))

    def _fail_if_live(self, session_id: SessionId, fault: Fault) -> None:
        session = self._tenants.by_id.get(session_id)
        if session is not None and session.live:
            self.fail(session, fault)
        elif session is not None:
            # A stage takes no more of a session that it refused.
            self.effects += self._tenants.spoil(session)

    def fail(self, session: Session, fault: Fault) -> None:
        """A session ends early."""
        self.effects.append(Failed(session.client, fault.code, fault.problem, session.usage))
        # Who leaves an answer may go on with the conversation.
        left = fault.code == "cancelled" and session.decoding and not session.at_ends
        left = left and not session.rejoining
        self.end(session, well=left)

    def end(self, session: Session, *, well: bool = False) -> None:
        """Nothing more is told of the session; clear it from stages and ends, or let it rest."""
        session.live = False
        self._departures.drop(session.id)
        self._returns.drop(session.id)
        self._prefill.drop(session)
        if session.out:
            self.effects.append(SendCancel(session.id, session.next_seq - 1))
        session.out.clear()
        keep = well and self.config.reuse
        self.effects += self._tenants.rest(session) if keep else self._tenants.release(session)

    def _returned(self, event: ReleaseReturned | RejoinReturned | ParkingEvent) -> None:
        if isinstance(event, ReleaseReturned | ResumeReturned | RejoinReturned):
            # Whatever the flight that was arriving still lacks will not come.
            self._returns.close_flight()
        if isinstance(event, RejoinReturned):
            if event.rejoin.epoch == self.epoch:
                self._comeback.rejoined(event.rejoin)
            return
        session, effects = self._tenants.returned(event, self.epoch)
        self.effects += effects
        if session is not None:
            self._prefill.add(session)

    # The ring

    def _ring(self, event: RingEvent) -> None:
        match event:
            case Granted(frames):
                self._departures.granted(frames)
            case RecordLost(session):
                self._departures.recorded.drop(session)
            case Forget() if not self._comeback.is_paused:
                self.effects += self._tenants.forget()
            case RingUp(_, goes_on) if goes_on and self._comeback.is_paused:
                # What the ends compute now belongs to what goes on.
                self._due = event
                self._go_on_if_due()
            case RingUp(epoch):
                self._ring_up(epoch)
            case RingPaused():
                self.epoch = self._due = None
                self.effects += self._comeback.pause()
            case RingDown(problem):
                self._ring_down(problem)

    @property
    def is_paused(self) -> bool:
        """Whether a part of the ring is lost, and sessions wait for another."""
        return self._comeback.is_paused

    def drop_stale(self, session: Session) -> None:
        """A guess was wrong: what is on its way behind it is computed for nothing."""
        if session.out:
            self.effects.append(SendCancel(session.id, session.next_seq - 1))
        session.cancelled = session.next_seq - 1
        session.out.clear()
        self._departures.drop_stale(session.id, session.cancelled)
        self._returns.drop(session.id)

    def _go_on_if_due(self) -> None:
        if self._due is None or self._turns.are_running:
            return
        due, self._due = self._due, None
        self.epoch = due.epoch
        self.effects += self._comeback.go_on(due.epoch, first_is_new=due.first_is_new)

    def _ring_up(self, epoch: Epoch) -> None:
        if self.epoch is not None and epoch <= self.epoch:
            raise ValueError(f"epoch {epoch} does not follow {self.epoch}")
        if self.epoch is not None or self._comeback.is_paused:
            self._ring_down("the ring was replaced")
        self._departures.reset()
        self._returns.reset()
        self.epoch = epoch

    def _ring_down(self, problem: str) -> None:
        self.epoch = self._due = None
        self._comeback.over()
        for waiting in self.line:
            self._reject(waiting.session, "ring_down", problem)
        self.line.clear()
        self._prefill.clear()
        self._departures.reset()
        self._returns.reset()
        for session in self._tenants.by_id.values():
            if session.live:
                self.effects.append(Failed(session.client, "ring_down", problem, session.usage))
        self.effects += self._tenants.down()

    # Windows come back

    def _window(self, event: WindowReturned | Unusable) -> None:
        window = event.window
        if self.epoch is None or window.epoch != self.epoch:
            problem = f"epoch {window.epoch} is not the current {self.epoch}"
            self.effects.append(Refuse(window.session, window.seq, "epoch", problem, False))
            return
        session = self._tenants.by_id.get(window.session)
        uncredited = self._returns.charge()
        if uncredited is not None:
            self._refuse(window, uncredited)
            return
        fault = self._returns.fault_of(event, session)
        if fault is not None:
            self._returns.refund()
            self._refuse(window, fault)
        elif session is None or not session.wants(window) or isinstance(event, Unusable):
            # It was on its way when its session ended, or its guesses turned out to be
            # wrong: no fault of its sender.
            self._returns.refund()
        else:
            sent = session.out.popleft()
            if not session.is_prompt(window.keep):
                self.pace.note(sent.together, event.lap_s, window.engine_us / 1e6)
            self._returns.add(Returned(session, window, event.payload))
        if window.follow == 0:
            self._returns.close_flight()

    def _refuse(self, window: Window, fault: Fault) -> None:
        refusal = Refuse(window.session, window.seq, fault.code, fault.problem, report=False)
        self.effects.append(refusal)
        self._fail_if_live(window.session, fault)
