"""What a stage knows of one session, and which windows it may send next."""

from __future__ import annotations

from dataclasses import dataclass

from atoll.domain.ids import SessionId, Slot
from atoll.domain.wire import ENCODINGS, F32, Park, Rejoin, Release, Resume, Window
from atoll.ring.messages import Fault
from atoll.ring.stage_messages import StageConfig


@dataclass(slots=True, eq=False)
class StageSession:
    """One session at one stage; it holds `slot` until it is released."""

    id: SessionId
    slot: Slot
    next_seq: int = 0
    held: int = 0
    """Positions in the KV cache, the running batch included."""
    end: int = 0
    """Positions once the queued windows are computed too."""
    cancelled: int = -1
    """Windows up to this number are stale."""
    broken: bool = False
    """A window of it was refused: nothing more of it is taken."""
    pending: int = 0
    """Windows in queue, batch or outbox, and a parcel that is to come."""
    release: Release | Park | None = None
    """Set while the release waits for the pending windows, or a parcel."""
    rejoin: Rejoin | None = None
    """Set while the rejoin waits for the replay that goes before it."""
    encoding: str = F32
    """How its rows travel."""
    exact: bool = False

    def wants(self, window: Window) -> bool:
        """Whether `window` is still worth computing or sending on."""
        return not self.broken and (window.replay or window.seq > self.cancelled)

    def take(self, window: Window) -> None:
        """One of its windows is taken into the queue."""
        if not window.replay:
            self.next_seq = window.seq + 1
        self.end = window.keep + window.rows
        self.encoding, self.exact = window.encoding, window.exact
        self.pending += 1

    def takes_replay(self, window: Window) -> bool:
        """Whether `window` continues what is sent anew of the session."""
        begun = self.next_seq or self.rejoin is not None or self.release is not None
        return not self.broken and not begun and (window.slot, window.keep) == (self.slot, self.end)

    def can_rejoin(self, rejoin: Rejoin) -> bool:
        """Whether the session may go on behind its first `rejoin.tokens` positions here."""
        sound = not (self.broken or rejoin.lost or self.release or self.rejoin or self.next_seq)
        return sound and self.slot == rejoin.slot and self.end >= rejoin.tokens

    def go_on(self, held: int) -> None:
        """A new epoch: what was on its way is lost, `held` positions are in the caches."""
        self.next_seq, self.cancelled, self.pending = 0, -1, 0
        self.held = self.end = held
        self.rejoin = None

    def fault_of(self, window: Window) -> Fault | None:
        """Why `window` is not the session's next one, or None if it is.

        Stale windows may be missing: an earlier stage dropped them.
        """
        due = max(self.next_seq, self.cancelled + 1)
        if window.slot != self.slot:
            return Fault("slot", f"the session holds slot {self.slot}, not {window.slot}")
        if self.release is not None:
            return Fault("released", "the session was released")
        if window.seq != due:
            return Fault("seq", f"window {window.seq} came, {due} was due")
        if window.keep > self.end:
            return Fault("gap", f"position {window.keep} leaves a gap after {self.end}")
        return None


def fault_of_first(window: Window) -> Fault | None:
    """Why `window` cannot be the first of a session, or None."""
    if window.seq != 0:
        return Fault("seq", f"window {window.seq} came, 0 was due")
    if window.keep != 0:
        return Fault("gap", f"position {window.keep} leaves a gap after 0")
    return None


def fault_of_resume(
    resume: Resume, config: StageConfig, session: StageSession | None
) -> Fault | None:
    """Why a session, perhaps known already, cannot begin with a parcel here, or None if it can."""
    if session is not None:
        return Fault("seq", "the session has begun")
    if resume.slot >= config.n_slots or resume.tokens > config.context:
        return Fault("keep", f"{resume.tokens} positions of slot {resume.slot} do not fit")
    return None


def fault_of_header(window: Window, config: StageConfig) -> Fault | None:
    """What is wrong with a window's own numbers under `config`, or None."""
    if not 0 <= window.slot < config.n_slots:
        return Fault("slot", f"slot {window.slot} is not one of {config.n_slots}")
    rows_max = min(config.rows_max, config.exact_rows_max) if window.exact else config.rows_max
    if not 1 <= window.rows <= rows_max:
        return Fault("rows", f"{window.rows} rows are not in 1 to {rows_max}")
    end = window.keep + window.rows
    if window.keep < 0 or end > config.context:
        return Fault("keep", f"positions {window.keep} to {end} are not in 0 to {config.context}")
    if window.encoding not in ENCODINGS or (window.exact and window.encoding != F32):
        return Fault("encoding", f"encoding {window.encoding!r} is not served here")
    return None
