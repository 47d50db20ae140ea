"""Stage: what one node does with the windows, cancels and releases it gets.

Pure: no clock, socket or task. The driver passes events and carries out the
returned effects in order. `node` drives it live; `sim` from a seeded heap.

Every container is bounded whatever the upstream sends: sessions by the slots
they hold, the queue by the credits given, the outbox by its limit plus one
batch. An upstream's frame never makes the machine raise.
"""

from __future__ import annotations

from atoll.domain.ids import Epoch, SessionId, Slot
from atoll.domain.wire import Cancel, Park, Rejoin, Release, Resume, Window
from atoll.ring.messages import (
    Fault,
    GrantCredit,
    Granted,
    ItemFailed,
    Payload,
    RecordLost,
    Refuse,
    WindowUnusable,
)
from atoll.ring.stage_comeback import StageComeback, lost
from atoll.ring.stage_messages import (
    BatchDone,
    BatchFailed,
    CancelArrived,
    DiscardArrived,
    DropParcel,
    DropRecord,
    DropSlot,
    EpochRaised,
    ForwardCancel,
    ForwardDiscard,
    ForwardRelease,
    ParcelEvent,
    ParcelFetched,
    ParcelLoaded,
    RejoinArrived,
    ReleaseArrived,
    ResumeArrived,
    RunBatch,
    StageConfig,
    StageEffect,
    StageEvent,
    WindowArrived,
)
from atoll.ring.stage_outbox import StageOutbox
from atoll.ring.stage_parcels import StageParcels, leave
from atoll.ring.stage_queue import StageQueue
from atoll.ring.stage_session import StageSession, fault_of_first, fault_of_header, fault_of_resume
from atoll.ring.stage_slots import StageSlots
from atoll.ring.stage_turns import Held, StageTurns


class Stage:
    """The machine of one stage; change it only through `handle`."""

    def __init__(self, config: StageConfig, epoch: Epoch) -> None:
        self.config = config
        self.epoch = epoch
        self._slots = StageSlots()
        self._parcels = StageParcels()
        self._queue = StageQueue(StageTurns(config))
        self._batch: list[Held] | None = None
        self._outbox = StageOutbox(config.downstream_credits)
        self._comeback = StageComeback(config, self._slots, self._outbox)
        self._batch_is_stale = False
        self._given = config.credits
        self._grants = 0
        self._effects: list[StageEffect] = []

    @property
    def sessions(self) -> int:
        """Sessions that hold a slot."""
        return len(self._slots)

    @property
    def queued(self) -> int:
        """Windows waiting for the engine, those of an unfinished flight included."""
        return len(self._queue)

    @property
    def outbox(self) -> int:
        """Computed windows waiting for credits."""
        return self._outbox.waiting

    @property
    def downstream_credits(self) -> int:
        """Windows that may be sent now."""
        return self._outbox.credits

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
        return self._slots.holders()

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
                self._outbox.granted(frames)
            case RejoinArrived(rejoin):
                self._rejoin(rejoin)
            case RecordLost(session):
                self._outbox.recorded.drop(session)
            case EpochRaised():
                self._raise_epoch(event)
        self._leave()
        self._start_batch()
        if self._grants:
            self._given += self._grants
            self._effects.append(GrantCredit(self._grants))
        return self._effects

    def _window(self, window: Window, payload: Payload, fault: Fault | None) -> None:
        if window.epoch != self.epoch:
            problem = f"epoch {window.epoch} is not the current {self.epoch}"
            self._refuse(window, Fault("epoch", problem), report=False)
            return
        session = self._slots.get(window.session)
        if self._given < 1:
            self._break(window, session, Fault("credit", "a window was sent without a credit"))
            return
        self._given -= 1
        if session is not None and not session.broken and 0 <= window.seq <= session.cancelled:
            session.next_seq = max(session.next_seq, window.seq + 1)
            self._grants += 1
        elif window.replay and (
            fault is not None or not self._comeback.takes_replay(window, session)
        ):
            # The rejoin behind it tells that something is missing.
            self._grants += 1
        elif window.replay:
            self._accept(window, payload, session)
        elif (fault := fault or self._fault_of(window, session)) is not None:
            self._grants += 1
            self._break(window, session, fault)
        else:
            self._accept(window, payload, session)
        # A refused or stale window may have been its flight's last.
        if window.follow == 0:
            self._queue.close_flight()

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
            return self._slots.fault_of(window.session, window.slot) or fault_of_first(window)
        return session.fault_of(window)

    def _accept(self, window: Window, payload: Payload, session: StageSession | None) -> None:
        session = session or self._slots.begin(window.session, window.slot)
        session.take(window)
        self._queue.add(Held(session, window, payload))

    def _break(self, window: Window, session: StageSession | None, fault: Fault) -> None:
        """Refuse a window; its session, if known, is broken until released."""
        noted = session is not None and session.broken
        self._refuse(window, fault, report=not noted)
        if session is not None and not session.broken:
            session.broken = True
            self._drop_unwanted(session)

    def _refuse(self, window: Window, fault: Fault, *, report: bool) -> None:
        self._effects.append(Refuse(window.session, window.seq, fault.code, fault.problem, report))

    def _cancel(self, cancel: Cancel) -> None:
        if not self._is_current(cancel.epoch, cancel.session, cancel.seq):
            return
        # Flights travel unbroken, so an unfinished one ends here.
        self._queue.close_flight()
        session = self._slots.get(cancel.session)
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
        self._queue.close_flight()
        session = self._slots.get(release.session)
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
        if not self._slots.holds(session) or session.release is None or session.pending:
            return
        self._slots.remove(session, released=True)
        self._outbox.recorded.drop(session.id)
        self._effects += [leave(session, session.release), ForwardRelease(session.release)]

    def _parcel(self, event: ParcelEvent) -> None:
        if isinstance(event, ResumeArrived):
            self._resume(event.resume)
        elif isinstance(event, DiscardArrived):
            if self._is_current(event.discard.epoch, event.discard.parcel):
                self._queue.close_flight()
                self._effects += [DropParcel(event.discard.parcel), ForwardDiscard(event.discard)]
        else:
            session, effects = self._parcels.here(event)
            self._effects += effects
            if session is not None:
                # Its release may have come meanwhile.
                self._free_if_done(session)

    def _resume(self, resume: Resume) -> None:
        if not self._is_current(resume.epoch, resume.session):
            return
        self._queue.close_flight()
        fault = fault_of_resume(resume, self.config, self._slots.get(resume.session))
        fault = fault or self._slots.fault_of(resume.session, resume.slot)
        if fault is not None:
            self._effects.append(Refuse(resume.session, -1, fault.code, fault.problem))
            return
        session = self._slots.begin(resume.session, resume.slot)
        self._effects += self._parcels.begin(session, resume)

    def _rejoin(self, rejoin: Rejoin) -> None:
        if not self._is_current(rejoin.epoch, rejoin.session):
            return
        self._queue.close_flight()
        session = self._slots.get(rejoin.session)
        if session is not None and self._comeback.can_rejoin(rejoin, session):
            self._effects += self._comeback.rejoin(rejoin, session, self.epoch)
            return
        if session is not None:
            self._forget(session)
        self._effects += [DropRecord(rejoin.session), lost(rejoin)]
        if session is not None and session.release is not None:
            self._effects.append(ForwardRelease(session.release))  # it waited for what is gone

    def _forget(self, session: StageSession) -> None:
        """Nothing of a session is of use here; what the engine still computes of it is dropped."""
        self._slots.remove(session, released=False)
        session.broken = True
        self._drop_unwanted(session)
        self._outbox.recorded.drop(session.id)
        self._effects.append(DropSlot(session.slot))

    def _raise_epoch(self, raised: EpochRaised) -> None:
        if raised.epoch <= self.epoch:
            return
        self.epoch = raised.epoch
        self._comeback.raised(raised)
        self._batch_is_stale = self._batch is not None
        # What the engine computes now has been nowhere else.
        running = {held.session.id: held.window.keep for held in self._batch or ()}
        for session in self._slots.all:
            unsound = session.broken or session.release or self._parcels.is_coming(session.id)
            if not raised.goes_on or unsound:
                self._forget(session)
                self._effects += [DropRecord(session.id)] if raised.goes_on else []
            else:
                session.go_on(min(session.held, running.get(session.id, session.held)))
        self._parcels.clear()
        self._queue.clear()
        self._outbox.reset()
        self._slots.new_epoch()
        self._given = self.config.credits
        self._grants = 0

    def _drop_unwanted(self, session: StageSession) -> None:
        """Drop the stale windows of `session`; the credits of queued ones go back."""

        def sift(held: list[Held]) -> list[Held]:
            left = [h for h in held if h.session is not session or session.wants(h.window)]
            session.pending -= len(held) - len(left)
            return left

        self._grants += self._queue.sift(sift)
        self._outbox.sift(sift)
        self._check_queue_of(session)
        self._free_if_done(session)

    def _check_queue_of(self, session: StageSession) -> None:
        """After windows were dropped: the rest must still continue what is held."""
        session.end = session.held
        for held in self._queue.of(session):
            if held.window.keep > session.end:
                problem = f"position {held.window.keep} leaves a gap after {session.end}"
                self._break(held.window, session, Fault("gap", problem))
                return
            session.end = held.window.keep + held.window.rows

    def _start_batch(self) -> None:
        """Start the next windows if the engine is free and what it made can leave."""
        if (
            self._batch is not None
            or not self._queue.has_whole
            or self.outbox >= self.config.outbox_max
        ):
            return
        self._batch = batch = self._queue.take()
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
        if self._end_batch(batch):
            return
        flight: list[Held] = []
        replayed: list[Held] = []
        for held, output in zip(batch, outputs, strict=True):
            if isinstance(output, ItemFailed):
                self._lose(held, output.problem)
            elif held.window.replay and self._comeback.next_is_new and not held.session.broken:
                replayed.append(Held(held.session, held.window, output))
            elif held.session.wants(held.window) and not held.window.replay:
                flight.append(Held(held.session, held.window, output))
            else:
                self._let_go(held)
        for leaving in (flight, *([held] for held in replayed)):
            self._outbox.add(leaving)

    def _batch_failed(self, problem: str) -> None:
        batch = self._batch
        assert batch is not None, "BatchFailed without a batch"
        if self._end_batch(batch):
            return
        for held in batch:
            self._lose(held, problem)

    def _end_batch(self, batch: list[Held]) -> bool:
        """The engine is free; whether what it computed is of an epoch that is over."""
        self._batch = None
        self._queue.batch_over(batch)
        stale, self._batch_is_stale = self._batch_is_stale, False
        return stale

    def _lose(self, held: Held, problem: str) -> None:
        """The engine could not compute this window: its session is broken here."""
        if not held.session.broken:
            self._break(held.window, held.session, Fault("engine", problem))
        self._let_go(held)

    def _let_go(self, held: Held) -> None:
        held.session.pending -= 1
        self._free_if_done(held.session)
        self._effects += self._comeback.done(held.session)

    def _leave(self) -> None:
        effects, gone = self._outbox.leave()
        self._effects += effects
        for held in gone:  # only behind all of a flight: a release must not cut it in two
            self._let_go(held)
