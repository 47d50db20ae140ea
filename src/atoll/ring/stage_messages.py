"""Events and effects of a `Stage`, and its limits."""

from __future__ import annotations

from msgspec import Struct

from atoll.domain.ids import Epoch, SessionId, Slot
from atoll.domain.wire import ROWS_MAX, Cancel, Discard, Park, Rejoin, Release, Resume, Window
from atoll.ring.coordinator_config import GUESS_ROWS
from atoll.ring.messages import (
    GrantCredit,
    Granted,
    ItemFailed,
    Payload,
    RecordLost,
    Refuse,
    WindowUnusable,
)


class StageConfig(Struct, frozen=True):
    """Limits of one stage; all counts, `context` in positions.

    Args:
        n_slots: Sessions whose KV cache fits.
        context: Positions a session may have.
        rows_max: Most rows in one engine call.
        exact_rows_max: Most rows of a session in one call that keeps the bits.
        credits: Windows the upstream may have in our queue; at most `queue_max`.
        downstream_credits: Windows the downstream takes from us before it grants more.
        queue_max: Most windows waiting for the engine.
        outbox_max: With this many outputs waiting for credits no batch is started.
        light_rows: Windows of more rows are chunks of prompts, which take long.
    """

    n_slots: int
    context: int
    rows_max: int
    exact_rows_max: int = 63
    credits: int = 64
    downstream_credits: int = 64
    queue_max: int = 64
    outbox_max: int = 64
    light_rows: int = GUESS_ROWS

    def __post_init__(self) -> None:
        limits = (self.n_slots, self.context, self.rows_max, self.exact_rows_max, self.credits)
        if (
            min(*limits, self.downstream_credits, self.queue_max, self.outbox_max, self.light_rows)
            < 1
        ):
            raise ValueError("every limit of a stage is at least 1")
        if self.credits > self.queue_max:
            raise ValueError(f"{self.credits} credits do not fit a queue of {self.queue_max}")
        if self.rows_max > ROWS_MAX:
            raise ValueError(f"rows_max {self.rows_max} is beyond the wire's {ROWS_MAX}")


class WindowArrived(Struct, frozen=True):
    """A window from the upstream; its payload has the length the header says."""

    window: Window
    payload: Payload


class CancelArrived(Struct, frozen=True):
    """A cancel whose signature the driver has checked."""

    cancel: Cancel


class ReleaseArrived(Struct, frozen=True):
    """A release, or a park, whose signature the driver has checked."""

    release: Release | Park


class ResumeArrived(Struct, frozen=True):
    """A resume whose signature the driver has checked."""

    resume: Resume


class DiscardArrived(Struct, frozen=True):
    """A discard whose signature the driver has checked."""

    discard: Discard


class RejoinArrived(Struct, frozen=True):
    """A rejoin whose signature the driver has checked."""

    rejoin: Rejoin


class ParcelFetched(Struct, frozen=True):
    """The answer to `FetchParcel`; None: it is lost."""

    session: SessionId
    parcel: Payload | None


class ParcelLoaded(Struct, frozen=True):
    """The answer to `LoadParcel`: whether the engine took it. If not, the slot is empty."""

    session: SessionId
    is_loaded: bool


class BatchDone(Struct, frozen=True):
    """The running batch is computed; `outputs` are in the order of its items."""

    outputs: tuple[Payload | ItemFailed, ...]


class BatchFailed(Struct, frozen=True):
    """The running batch failed as a whole."""

    problem: str


class EpochRaised(Struct, frozen=True):
    """A newer plan, its signature checked by the driver.

    `goes_on`: sessions keep what is computed of them; what was on its way is lost.
    Otherwise everything is. `next_is_new`: the downstream has nothing of any session, and
    is sent it anew.
    """

    epoch: Epoch
    goes_on: bool = False
    next_is_new: bool = False


class BatchItem(Struct, frozen=True):
    """One session's rows in an engine call.

    The engine drops what `slot` holds at position `keep` and beyond, then
    computes `rows` rows at positions keep, keep + 1, ...
    """

    session: SessionId
    slot: Slot
    keep: int
    rows: int
    exact: bool
    encoding: str
    payload: Payload


class RunBatch(Struct, frozen=True):
    """Compute these items in one call; all have equal `rows` and `exact`."""

    items: tuple[BatchItem, ...]


class Forward(Struct, frozen=True):
    """Send a computed window downstream."""

    window: Window
    payload: Payload


class ForwardRecord(Struct, frozen=True):
    """Send these rows of a session downstream as they were sent before."""

    window: Window


class DropRecord(Struct, frozen=True):
    """Nothing that was sent of a session will be wanted again."""

    session: SessionId


class ForwardRejoin(Struct, frozen=True):
    """Send the rejoin on, changed in `lost` alone."""

    rejoin: Rejoin


class ForwardCancel(Struct, frozen=True):
    """Send the cancel on as it came."""

    cancel: Cancel


class ForwardRelease(Struct, frozen=True):
    """Send the release, or the park, on as it came."""

    release: Release | Park


class ForwardResume(Struct, frozen=True):
    """Send the resume on, changed in `lost` alone."""

    resume: Resume


class ForwardDiscard(Struct, frozen=True):
    """Send the discard on as it came."""

    discard: Discard


class TakeParcel(Struct, frozen=True):
    """Take a slot's first positions out and keep them; clear the slot, as `DropSlot` does."""

    slot: Slot
    parcel: SessionId
    tokens: int


class FetchParcel(Struct, frozen=True):
    """Bring a parcel from where it is kept, or find that it is lost: `ParcelFetched`."""

    session: SessionId
    parcel: SessionId


class LoadParcel(Struct, frozen=True):
    """Put a parcel's positions into a slot, before any later batch: `ParcelLoaded`."""

    session: SessionId
    slot: Slot
    parcel: SessionId
    tokens: int
    data: Payload


class DropParcel(Struct, frozen=True):
    """Forget a parcel, wherever it is kept."""

    parcel: SessionId


class DropSlot(Struct, frozen=True):
    """Clear the slot's KV cache, after the running batch and before any later one."""

    slot: Slot


ParcelEvent = ResumeArrived | DiscardArrived | ParcelFetched | ParcelLoaded
StageEvent = (
    WindowArrived
    | WindowUnusable
    | CancelArrived
    | ReleaseArrived
    | RejoinArrived
    | RecordLost
    | ParcelEvent
    | BatchDone
    | BatchFailed
    | Granted
    | EpochRaised
)
ParcelEffect = TakeParcel | FetchParcel | LoadParcel | DropParcel
StageEffect = (
    RunBatch
    | Forward
    | ForwardRecord
    | ForwardRejoin
    | DropRecord
    | ForwardCancel
    | ForwardRelease
    | ForwardResume
    | ForwardDiscard
    | DropSlot
    | ParcelEffect
    | Refuse
    | GrantCredit
)
