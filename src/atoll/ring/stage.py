"""Stage: what one node does with the windows, cancels and releases it gets.

Pure: no clock, socket or task. The driver passes events and carries out the
returned effects in order. `node` drives it live; `sim` from a seeded heap.

Every container is bounded whatever the upstream sends: sessions by the slots
they hold, the queue by the credits given, the outbox by its limit plus one
batch. An upstream's frame never makes the machine raise.
"""

from __future__ import annotations

from collections import deque

import msgspec

from atoll.domain.ids import Epoch, SessionId, Slot
from atoll.domain.wire import Cancel, Park, Release, Resume, Window
from atoll.ring.messages import (
    Fault,
    GrantCredit,
    Granted,
    ItemFailed,
    Payload,
    Refuse,
    WindowUnusable,
)
from atoll.ring.stage_messages import (
    BatchDone,
    BatchFailed,
    CancelArrived,
    DiscardArrived,
    DropParcel,
    DropSlot,
    EpochRaised,
    Forward,
    ForwardCancel,
    ForwardDiscard,
    ForwardRelease,
    ParcelEvent,
    ParcelFetched,
    ParcelLoaded,
    ReleaseArrived,
    ResumeArrived,
    RunBatch,
    StageConfig,
    StageEffect,
    StageEvent,
    WindowArrived,
)
from atoll.ring.stage_parcels import StageParcels, leave
from atoll.ring.stage_session import StageSession, fault_of_first, fault_of_header, fault_of_resume
from atoll.ring.stage_turns import Held, StageTurns


class Stage:
    """The machine of one stage; change it only through `handle`."""

    def __init__(self, config: StageConfig, epoch: Epoch) -> None:
        self.config = config
        self.epoch = epoch
        self._sessions: dict[SessionId, StageSession] = {}
        self._by_slot: dict[Slot, StageSession] = {}
        # The session each slot served last: a replay of its first window must
        # not take the slot again.
        self._released: dict[Slot, SessionId] = {}
        self._parcels = StageParcels()
        self._arriving: list[Held] = []
        self._queue: list[Held] = []
        self._batch: list[Held] | None = None
        self._turns = StageTurns(config)
        self._outbox: deque[list[Held]] = deque()
        self._credits = config.downstream_credits
        self._given = config.credits
        self._grants = 0
        self._effects: list[StageEffect] = []

    @property
    def sessions(self) -> int:
        """Sessions that hold a slot."""
        return len(self._sessions)

    @property
    def queued(self) -> int:
        """Windows waiting for the engine, those of an unfinished flight included."""
        return len(self._queue) + len(self._arriving)

    @property
    def outbox(self) -> int:
        """Computed windows waiting for credits."""
        return sum(len(flight) for flight in self._outbox)

    @property
    def downstream_credits(self) -> int:
        """Windows that may be sent now."""
        return self._credits

    @property
    def upstream_credits(self) -> int:
        """Windows the upstream may still send."""
        return self._given

    @property
    def running(self) -> bool:
        """Whether a batch is with the engine."""
        return self._batch is not None

    def holders(self) -> dict[Slot, SessionId]:
        """Which session holds which slot."""
        return {slot: session.id for slot, session in self._by_slot.items()}

    def handle(self, event: StageEvent) -> list[StageEffect]:
        """Take one event; return what the driver has to do, in this order."""
        self._effects = []
        self._grants = 0
        match event:
            case WindowArrived(window, payload):
                self._window(window, payload, None)
            case WindowUnusable(window, code, problem):
                self._window(window, b"", Fault(code, problem))
            case CancelArrived(cancel):
                self._cancel(cancel)
            case ReleaseArrived(release):
                self._release(release)
            case ResumeArrived() | DiscardArrived() | ParcelFetched() | ParcelLoaded():
                self._parcel(event)
            case BatchDone(outputs):
                self._batch_done(outputs)
            case BatchFailed(problem):
                self._batch_failed(problem)
            case Granted(frames):
                # A downstream cannot grant itself more than was agreed.
                limit = self.config.downstream_credits
                self._credits = min(limit, self._credits + max(0, frames))
            case EpochRaised(epoch):
                self._raise_epoch(epoch)
        self._flush()
        self._start_batch()
        if self._grants:
            self._given += self._grants
            self._effects.append(GrantCredit(self._grants))
        return self._effects

    # Windows

    def _window(self, window: Window, payload: Payload, fault: Fault | None) -> None:
        if window.epoch != self.epoch:
            problem = f"epoch {window.epoch} is not the current {self.epoch}"
            self._refuse(window, Fault("epoch", problem), report=False)
            return
        session = self._sessions.get(window.session)
        if self._given < 1:
            self._break(window, session, Fault("credit", "a window was sent without a credit"))
            return
        self._given -= 1
        if session is not None and not session.broken and 0 <= window.seq <= session.cancelled:
            session.next_seq = max(session.next_seq, window.seq + 1)
            self._grants += 1
        elif (fault := fault or self._fault_of(window, session)) is not None:
            self._grants += 1
            self._break(window, session, fault)
        else:
            self._accept(window, payload, session)
        # A refused or stale window may have been its flight's last.
        if window.follow == 0:
            self._close_flight()

    def _fault_of(self, window: Window, session: StageSession | None) -> Fault | None:
        if session is not None and session.broken:
            return Fault("broken", "the session was refused before")
        fault = fault_of_header(window, self.config)
        if fault is not None:
            return fault
        if window.follow < 0 or self.queued + window.follow + 1 > self.config.queue_max:
            bound = self.config.queue_max
            return Fault("flight", f"{window.follow} more to come is beyond a queue of {bound}")
        if session is None:
            return self._fault_of_slot(window.session, window.slot) or fault_of_first(window)
        return session.fault_of(window)

    def _fault_of_slot(self, session: SessionId, slot: Slot) -> Fault | None:
        """Why a session cannot begin in a slot, or None if it can."""
        if slot in self._by_slot:
            return Fault("slot", f"slot {slot} is held by another session")
        if self._released.get(slot) == session:
            return Fault("released", "the session was released")
        return None

    def _accept(self, window: Window, payload: Payload, session: StageSession | None) -> None:
        session = session or self._begin(window.session, window.slot)
        session.next_seq = window.seq + 1
        session.end = window.keep + window.rows
        session.pending += 1
        self._arriving.append(Held(session, window, payload))

    def _begin(self, session_id: SessionId, slot: Slot) -> StageSession:
        session = StageSession(session_id, slot)
        self._sessions[session.id] = self._by_slot[slot] = session
        return session

    def _close_flight(self) -> None:
        self._queue += self._arriving
        self._arriving = []

    def _break(self, window: Window, session: StageSession | None, fault: Fault) -> None:
        """Refuse a window; its session, if known, is broken until released."""
        noted = session is not None and session.broken
        self._refuse(window, fault, report=not noted)
        if session is not None and not session.broken:
            session.broken = True
            self._drop_unwanted(session)

    def _refuse(self, window: Window, fault: Fault, *, report: bool) -> None:
        refusal = Refuse(window.session, window.seq, fault.code, fault.problem, report)
        self._effects.append(refusal)

    # Cancel, release, epoch

    def _cancel(self, cancel: Cancel) -> None:
        if not self._is_current(cancel.epoch, cancel.session, cancel.seq):
            return
        # Flights travel unbroken, so an unfinished one ends here.
        self._close_flight()
        session = self._sessions.get(cancel.session)
        # The cancel goes ahead of what waits here: it is to overtake stale work.
        self._effects.append(ForwardCancel(cancel))
        if session is not None and cancel.seq > session.cancelled:
            session.cancelled = cancel.seq
            self._drop_unwanted(session)

    def _is_current(self, epoch: Epoch, session: SessionId, seq: int = -1) -> bool:
        if epoch != self.epoch:
            problem = f"epoch {epoch} is not the current {self.epoch}"
            self._effects.append(Refuse(session, seq, "epoch", problem, False))
        return epoch == self.epoch

    def _release(self, release: Release | Park) -> None:
        if not self._is_current(release.epoch, release.session):
            return
        self._close_flight()
        session = self._sessions.get(release.session)
        if session is None:
            # Refused or cancelled before anything of it was taken: nothing to free here.
            self._effects.append(ForwardRelease(release))
        elif session.release is not None or session.slot != release.slot:
            problem = f"the release of slot {release.slot} does not fit the session"
            self._effects.append(Refuse(release.session, -1, "released", problem))
        else:
            session.release = release
            self._free_if_done(session)

    def _free_if_done(self, session: StageSession) -> None:
        gone = self._sessions.get(session.id) is not session
        if gone or session.release is None or session.pending:
            return
        del self._sessions[session.id], self._by_slot[session.slot]
        self._released[session.slot] = session.id
        self._effects += [leave(session, session.release), ForwardRelease(session.release)]

    def _parcel(self, event: ParcelEvent) -> None:
        match event:
            case ResumeArrived(resume):
                self._resume(resume)
            case DiscardArrived(discard):
                if self._is_current(discard.epoch, discard.parcel):
                    self._close_flight()
                    self._effects += [DropParcel(discard.parcel), ForwardDiscard(discard)]
            case ParcelFetched() | ParcelLoaded():
                session, effects = self._parcels.here(event)
                self._effects += effects
                if session is not None:
                    # Its release may have come meanwhile.
                    self._free_if_done(session)

    def _resume(self, resume: Resume) -> None:
        if not self._is_current(resume.epoch, resume.session):
            return
        self._close_flight()
        fault = fault_of_resume(resume, self.config, self._sessions.get(resume.session))
        fault = fault or self._fault_of_slot(resume.session, resume.slot)
        if fault is not None:
            self._effects.append(Refuse(resume.session, -1, fault.code, fault.problem))
            return
        session = self._begin(resume.session, resume.slot)
        self._effects += self._parcels.begin(session, resume)

    def _raise_epoch(self, epoch: Epoch) -> None:
        if epoch <= self.epoch:
            return
        self.epoch = epoch
        self._effects += [DropSlot(slot) for slot in sorted(self._by_slot)]
        # The engine may still hold a batch of the old epoch; as its sessions
        # are broken, what it returns is dropped.
        for session in self._sessions.values():
            session.broken = True
        self._sessions, self._by_slot, self._released = {}, {}, {}
        self._parcels.clear()
        self._arriving, self._queue = [], []
        self._outbox.clear()
        self._credits = self.config.downstream_credits
        self._given = self.config.credits
        self._grants = 0

    def _drop_unwanted(self, session: StageSession) -> None:
        """Drop the stale windows of `session`; the credits of queued ones go back."""

        def sift(held: list[Held]) -> list[Held]:
            left = [h for h in held if h.session is not session or session.wants(h.window)]
            session.pending -= len(held) - len(left)
            return left

        waiting = self.queued
        self._queue, self._arriving = sift(self._queue), sift(self._arriving)
        self._grants += waiting - self.queued
        self._outbox = deque(left for flight in self._outbox if (left := sift(flight)))
        self._check_queue_of(session)
        self._free_if_done(session)

    def _check_queue_of(self, session: StageSession) -> None:
        """After windows were dropped: the rest must still continue what is held."""
        session.end = session.held
        for held in [h for h in (*self._queue, *self._arriving) if h.session is session]:
            if held.window.keep > session.end:
                problem = f"position {held.window.keep} leaves a gap after {session.end}"
                self._break(held.window, session, Fault("gap", problem))
                return
            session.end = held.window.keep + held.window.rows

    # Engine

    def _start_batch(self) -> None:
        """Start the next windows if the engine is free and what it made can leave."""
        if self._batch is not None or not self._queue or self.outbox >= self.config.outbox_max:
            return
        batch, self._queue = self._turns.take(self._queue)
        self._batch = batch
        for held in batch:
            held.session.held = held.window.keep + held.window.rows
        self._grants += len(batch)
        self._effects.append(RunBatch(tuple(held.item() for held in batch)))

    def _batch_done(self, outputs: tuple[Payload | ItemFailed, ...]) -> None:
        batch = self._batch
        assert batch is not None, "BatchDone without a batch"
        if len(outputs) != len(batch):
            self._batch_failed(f"the engine returned {len(outputs)} of {len(batch)} outputs")
            return
        self._end_batch(batch)
        flight: list[Held] = []
        for held, output in zip(batch, outputs, strict=True):
            if isinstance(output, ItemFailed):
                self._lose(held, output.problem)
            elif held.session.wants(held.window):
                flight.append(Held(held.session, held.window, output))
            else:
                self._let_go(held)
        if flight:
            self._outbox.append(flight)

    def _batch_failed(self, problem: str) -> None:
        batch = self._batch
        assert batch is not None, "BatchFailed without a batch"
        self._end_batch(batch)
        for held in batch:
            self._lose(held, problem)

    def _end_batch(self, batch: list[Held]) -> None:
        self._batch = None
        self._turns.over(batch, (*self._queue, *self._arriving))

    def _lose(self, held: Held, problem: str) -> None:
        """The engine could not compute this window: its session is broken here."""
        if not held.session.broken:
            self._break(held.window, held.session, Fault("engine", problem))
        self._let_go(held)

    def _let_go(self, held: Held) -> None:
        held.session.pending -= 1
        self._free_if_done(held.session)

    # Downstream

    def _flush(self) -> None:
        """Send what credits allow. What leaves together is one flight.

        A flight larger than the credits leaves in parts, each a flight of its
        own, so that the downstream never waits for a window that cannot come.
        """
        while self._outbox and self._credits:
            flight = self._outbox.popleft()
            part, left = flight[: self._credits], flight[self._credits :]
            if left:
                self._outbox.appendleft(left)
            self._credits -= len(part)
            for follow, held in zip(range(len(part) - 1, -1, -1), part, strict=True):
                window = msgspec.structs.replace(held.window, follow=follow)
                self._effects.append(Forward(window, held.payload))
            # Only behind the whole flight: a release must not cut it in two.
            for held in part:
                self._let_go(held)
