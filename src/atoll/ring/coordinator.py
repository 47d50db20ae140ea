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

from collections import deque
from collections.abc import Callable

from atoll.domain.generation import GenerateRequest
from atoll.domain.ids import Epoch, SessionId, Slot
from atoll.domain.wire import Window
from atoll.ring.admission import Prefill, objection
from atoll.ring.coordinator_config import CoordinatorConfig
from atoll.ring.coordinator_messages import (
    CancelSession,
    CoordinatorEffect,
    CoordinatorEvent,
    DraftDone,
    DraftGone,
    Emit,
    EndsDone,
    EndsFailed,
    EndsItem,
    EndsResult,
    Failed,
    Finished,
    Forget,
    HeadDone,
    HeadItem,
    Rejected,
    ReleaseReturned,
    RingDown,
    RingUp,
    SendCancel,
    SessionRefused,
    Submit,
    TailDone,
    TailItem,
    WindowReturned,
)
from atoll.ring.departures import Departures, Ready
from atoll.ring.draft_turns import DraftTurns
from atoll.ring.drafting import Drafter, Lookups
from atoll.ring.ends_turns import EndsTurns, Turn
from atoll.ring.messages import Fault, GrantCredit, Granted, ItemFailed, Refuse
from atoll.ring.messages import WindowUnusable as Unusable
from atoll.ring.pace import Pace
from atoll.ring.parking import ParkingLot
from atoll.ring.parking_messages import EndsLoadedParcel, ParkingEvent, ResumeReturned, Tick
from atoll.ring.returns import Returned, Returns
from atoll.ring.session import Session
from atoll.ring.tenants import Tenants


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
        self._waiting: deque[Submit] = deque()
        self._prefill = Prefill(config)
        self._departures = Departures(config, self.pace)
        self._returns = Returns(config.return_credits)
        self._turns = EndsTurns(
            config, self._tenants, self._prefill, self._departures, self._returns
        )
        self._drafts = DraftTurns(config, self.pace)
        self._effects: list[CoordinatorEffect] = []

    @property
    def active(self) -> int:
        """Sessions that hold a slot, those being released included."""
        return self._tenants.active

    @property
    def waiting(self) -> int:
        """Sessions that wait for a slot."""
        return len(self._waiting)

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
        """Sessions whose first token was sampled."""
        return sum(session.decoding for session in self._tenants.by_id.values())

    @property
    def returns(self) -> Returns:
        """Returned windows and the credits given, to look at."""
        return self._returns

    def holders(self) -> dict[Slot, SessionId]:
        """Which session holds which slot."""
        return {session.slot: session.id for session in self._tenants.by_id.values()}

    def marks(self) -> dict[SessionId, tuple[int, int, int]]:
        """Of each session that is under way, numbers of which one changes when it moves on."""
        return {s.id: (s.next_seq, s.sampled, len(s.out)) for s in self._tenants.under_way}

    def handle(self, event: CoordinatorEvent) -> list[CoordinatorEffect]:
        """Take one event; return what the driver has to do, in this order.

        Raises:
            ValueError: A session id is submitted twice, or an epoch goes back.
        """
        self._effects = []
        match event:
            case Submit():
                self._submit(event)
            case CancelSession(session, reason):
                self._cancel(session, reason)
            case EndsDone() | EndsFailed():
                self._ends_answered(event)
            case DraftDone(guesses, took_s):
                self._drafts.end(guesses, took_s)
            case DraftGone():
                self._drafts.gone()
            case WindowReturned() | Unusable():
                self._window(event)
            case SessionRefused(session, _, code, problem):
                self._fail_if_live(session, Fault(code, problem))
            case ReleaseReturned() | ResumeReturned() | EndsLoadedParcel() | Tick():
                self._returned(event)
            case Granted() | Forget() | RingUp() | RingDown():
                self._ring(event)
        if self.epoch is not None:
            self._admit()
            self._work(self.epoch)
            grants = self._returns.take_grants()
            if grants:
                self._effects.append(GrantCredit(grants))
        return self._effects

    def _work(self, epoch: Epoch) -> None:
        """Have everything leave and begin that can."""
        self.pace.streams = decoding = self.decoding
        self._effects += self._departures.leave(epoch, decoding)
        if (drafts := self._drafts.begin(self._tenants.by_id.values())) is not None:
            self._effects.append(drafts)
        if (work := self._turns.begin()) is not None:
            self._effects.append(work)

    # Sessions come and go

    def _submit(self, submit: Submit) -> None:
        session = submit.session
        known = self._tenants.client(session) is not None
        if known or any(w.session == session for w in self._waiting):
            raise ValueError(f"session {session} was submitted twice")
        refusal = objection(
            *(submit, self.config),
            up=self.epoch is not None,
            active=self.active,
            waiting=self.waiting,
        )
        if refusal is not None:
            self._effects.append(refusal)
        elif submit.again:
            self._waiting.appendleft(submit)
        else:
            self._waiting.append(submit)

    def _reject(self, session: SessionId, code: str, problem: str) -> None:
        self._effects.append(Rejected(session, code, problem, self.config.retry_after_s))

    def _admit(self) -> None:
        """Give slots to who waits longest."""
        while self._tenants.has_room and self._waiting:
            session, effects = self._tenants.admit(self._waiting[0], len(self._waiting))
            self._effects += effects
            if session is None:
                break
            self._waiting.popleft()
            if session.coming is None:
                self._prefill.add(session)

    def _cancel(self, session_id: SessionId, reason: str) -> None:
        waiting = next((w for w in self._waiting if w.session == session_id), None)
        if waiting is not None:
            self._waiting.remove(waiting)
            self._effects.append(Rejected(session_id, "cancelled", reason))
        else:
            session = self._tenants.client(session_id)
            if session is not None:
                self._fail(session, Fault("cancelled", reason))

    def _fail_if_live(self, session_id: SessionId, fault: Fault) -> None:
        session = self._tenants.by_id.get(session_id)
        if session is not None and session.live:
            self._fail(session, fault)
        elif session is not None:
            # A stage takes no more of a session that it refused.
            self._effects += self._tenants.spoil(session)

    def _fail(self, session: Session, fault: Fault) -> None:
        self._effects.append(Failed(session.client, fault.code, fault.problem, session.usage))
        # Who leaves an answer may go on with the conversation.
        left = fault.code == "cancelled" and session.decoding and not session.at_ends
        self._end(session, well=left)

    def _end(self, session: Session, *, well: bool = False) -> None:
        """Nothing more is told of the session; clear it from stages and ends, or let it rest."""
        session.live = False
        self._departures.drop(session.id)
        self._returns.drop(session.id)
        self._prefill.drop(session)
        if session.out:
            self._effects.append(SendCancel(session.id, session.next_seq - 1))
        session.out.clear()
        keep = well and self.config.reuse
        self._effects += self._tenants.rest(session) if keep else self._tenants.release(session)

    def _returned(self, event: ReleaseReturned | ParkingEvent) -> None:
        if isinstance(event, ReleaseReturned | ResumeReturned):
            # Whatever the flight that was arriving still lacks will not come.
            self._returns.close_flight()
        session, effects = self._tenants.returned(event, self.epoch)
        self._effects += effects
        if session is not None:
            self._prefill.add(session)

    # The ring

    def _ring(self, event: Granted | Forget | RingUp | RingDown) -> None:
        match event:
            case Granted(frames):
                self._departures.granted(frames)
            case Forget():
                self._effects += self._tenants.forget()
            case RingUp(epoch):
                self._ring_up(epoch)
            case RingDown(problem):
                self._ring_down(problem)

    def _ring_up(self, epoch: Epoch) -> None:
        if self.epoch is not None:
            if epoch <= self.epoch:
                raise ValueError(f"epoch {epoch} does not follow {self.epoch}")
            self._ring_down("the ring was replaced")
        self._departures.reset()
        self._returns.reset()
        self.epoch = epoch

    def _ring_down(self, problem: str) -> None:
        self.epoch = None
        for waiting in self._waiting:
            self._reject(waiting.session, "ring_down", problem)
        self._waiting.clear()
        self._prefill.clear()
        self._departures.reset()
        self._returns.reset()
        for session in self._tenants.by_id.values():
            if session.live:
                self._effects.append(Failed(session.client, "ring_down", problem, session.usage))
        self._effects += self._tenants.down()

    # Windows come back

    def _window(self, event: WindowReturned | Unusable) -> None:
        window = event.window
        if self.epoch is None or window.epoch != self.epoch:
            problem = f"epoch {window.epoch} is not the current {self.epoch}"
            self._effects.append(Refuse(window.session, window.seq, "epoch", problem, False))
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
        self._effects.append(refusal)
        self._fail_if_live(window.session, fault)

    # The ends

    def _ends_answered(self, event: EndsDone | EndsFailed) -> None:
        turns = self._turns.end()
        if isinstance(event, EndsFailed):
            self._end_turns(turns, event.problem)
            return
        results, took_s = event.results, event.took_s
        if decoded := sum(turn.decoded for turn in turns):
            self.pace.note_ends(decoded, took_s)
        if len(results) != len(turns):
            self._end_turns(turns, f"the ends gave {len(results)} of {len(turns)} results")
            return
        for turn, result in zip(turns, results, strict=True):
            if turn.session.live:
                self._result(turn.session, turn.item, result)
            else:
                self._effects += self._tenants.free_if_done(turn.session)

    def _end_turns(self, turns: list[Turn], problem: str) -> None:
        for turn in turns:
            if turn.session.live:
                self._fail(turn.session, Fault("engine", problem))
            else:
                self._effects += self._tenants.free_if_done(turn.session)

    def _result(self, session: Session, item: EndsItem, result: EndsResult) -> None:
        match item, result:
            case HeadItem(), HeadDone(payload):
                self._departures.add(Ready(session, item.keep, len(item.tokens), payload))
            case TailItem(), TailDone():
                self._tail_done(session, item, result)
            case _, ItemFailed(problem):
                self._fail(session, Fault("engine", problem))
            case _:
                self._fail(session, Fault("engine", "the ends answered another question"))

    def _tail_done(self, session: Session, item: TailItem, done: TailDone) -> None:
        if session.is_prompt(item.keep):
            session.chunk_back(item.rows)
        if not item.sample:
            return
        problem, sampled = done.problem(item), done.sampled
        if problem or sampled is None:
            self._fail(session, Fault("engine", problem))
            return
        session.sampled += 1 + len(done.accepted)
        session.tokens += [token.token for token in (*done.accepted, sampled)]
        self._effects += [Emit(session.client, token) for token in (*done.accepted, sampled)]
        if sampled.finish is not None:
            self._effects.append(Finished(session.client, session.usage))
            self._end(session, well=True)
            return
        if session.speculation is not None:
            tokens = [token.token for token in (*done.accepted, sampled)]
            if session.speculation.sampled(tokens, chained=item.chain):
                self._drop_stale(session)
        if done.payload is not None:
            self._departures.add(Ready(session, item.keep + item.rows, 1, done.payload))

    def _drop_stale(self, session: Session) -> None:
        """A guess was wrong: what is on its way behind it is computed for nothing."""
        if session.out:
            self._effects.append(SendCancel(session.id, session.next_seq - 1))
        session.cancelled = session.next_seq - 1
        session.out.clear()
        self._departures.drop_stale(session.id, session.cancelled)
        self._returns.drop(session.id)
