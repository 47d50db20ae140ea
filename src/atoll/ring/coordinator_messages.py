"""Events and effects of the `Coordinator`."""

from __future__ import annotations

from msgspec import Struct

from atoll.domain.generation import GenerateRequest, Sampled, SamplingParams
from atoll.domain.ids import Epoch, SessionId, Slot
from atoll.domain.wire import Park, Release, Window
from atoll.ring.comeback_messages import ComebackEffect, RejoinReturned, RingPaused
from atoll.ring.messages import (
    GrantCredit,
    Granted,
    ItemFailed,
    Payload,
    RecordLost,
    Refuse,
    WindowUnusable,
)
from atoll.ring.parking_messages import ParkingEffect, ParkingEvent


class Usage(Struct, frozen=True):
    """Tokens of a session: those of its prompt, and those sampled (the end token too)."""

    prompt_tokens: int
    completion_tokens: int


# Events


class Submit(Struct, frozen=True):
    """A new session; answered with `Admitted` (perhaps later) or `Rejected`.

    `again`: another ring had admitted it; it goes before others and is not turned away.
    """

    session: SessionId
    request: GenerateRequest
    again: bool = False


class CancelSession(Struct, frozen=True):
    """Nobody wants the rest: it ends `Failed` with code "cancelled" and its usage."""

    session: SessionId
    reason: str


class Hold(Struct, frozen=True):
    """The session is to compute no further, as its client does not keep up; or to go on."""

    session: SessionId
    held: bool


class HeadDone(Struct, frozen=True):
    """The first layers' output for a `HeadItem`, encoded."""

    payload: Payload


class TailDone(Struct, frozen=True):
    """What a `TailItem` gave: the token if it asked for one, the next window if it chained.

    `accepted` are tokens sampled before it, each as it was guessed. `payload` is one
    row, the first layers' output for the sampled token; None if the token finished
    the session or the item did not chain.
    """

    sampled: Sampled | None = None
    payload: Payload | None = None
    accepted: tuple[Sampled, ...] = ()

    def problem(self, item: TailItem) -> str:
        """Why this cannot be the answer to an item that samples; empty if it can."""
        if self.sampled is None or (item.last and self._reached(item) and not self._ended):
            return "the ends returned no token to end with"
        if item.chain and not self._ended and self.payload is None:
            return "the ends did not run the first layers"
        if len(self.accepted) >= item.checked:
            return "the ends sampled more than was asked for"
        return ""

    @property
    def _ended(self) -> bool:
        return self.sampled is not None and self.sampled.finish is not None

    def _reached(self, item: TailItem) -> bool:
        return len(self.accepted) + 1 == item.checked


EndsResult = HeadDone | TailDone | ItemFailed


class EndsDone(Struct, frozen=True):
    """The running `RunEnds` is done; `results` are in the order of its items.

    `took_s` is what the ends took; 0 if that is not known.
    """

    results: tuple[EndsResult, ...]
    took_s: float = 0.0


class EndsFailed(Struct, frozen=True):
    """The running `RunEnds` failed as a whole."""

    problem: str


class DraftDone(Struct, frozen=True):
    """The running `RunDraft` is done: guesses of each item, None where it failed.

    `took_s` is what the draft model took.
    """

    guesses: tuple[tuple[int, ...] | None, ...]
    took_s: float = 0.0


class DraftGone(Struct, frozen=True):
    """The draft model is gone; what was asked of it will not be answered."""


class WindowReturned(Struct, frozen=True):
    """A window from the last stage; its payload has the length the header says.

    `lap_s` is how long it was on its way; 0 if that is not known.
    """

    window: Window
    payload: Payload
    lap_s: float = 0.0


class ReleaseReturned(Struct, frozen=True):
    """A release or a park has gone once round; its signature is ours."""

    release: Release | Park


class SessionRefused(Struct, frozen=True):
    """A stage of the current epoch refused a window of this session or failed on it."""

    session: SessionId
    seq: int
    code: str
    problem: str


class Forget(Struct, frozen=True):
    """Release the caches that ended sessions left."""


class RingUp(Struct, frozen=True):
    """Every stage of `epoch` is ready and the links stand, with fresh credits.

    `goes_on`: after `RingPaused`, stages that were not lost hold what they held.
    `first_is_new`: the first one was lost.
    """

    epoch: Epoch
    goes_on: bool = False
    first_is_new: bool = False


class RingDown(Struct, frozen=True):
    """The ring cannot go on; nothing of its epoch will be heard again."""

    problem: str


# Work for the ends


class HeadItem(Struct, frozen=True):
    """Run the first layers on `tokens` at positions keep, keep + 1, ...

    They are of the prompt, or sampled and guessed ones.
    """

    session: SessionId
    slot: Slot
    keep: int
    tokens: tuple[int, ...]
    exact: bool
    encoding: str


class TailItem(Struct, frozen=True):
    """Run the last layers on a returned window at positions keep, keep + 1, ...

    Args:
        sample: Compute the logits of the last `checked` rows, and choose the tokens
            behind them one after the other, up to the first that is not as guessed.
        chain: Unless that token finishes the session, run the first layers on
            it at position keep + rows and encode the row as `encoding`.
        last: The token at position keep + rows is the last the session may have:
            its finish is "length" unless it is an end token.
        checked: Rows whose next token is wanted; more than one where tokens were guessed.
        guesses: The tokens guessed behind the checked rows; one fewer if nothing is
            guessed behind the last.
    """

    session: SessionId
    slot: Slot
    keep: int
    rows: int
    payload: Payload
    exact: bool
    encoding: str
    sample: bool
    chain: bool
    last: bool
    checked: int = 1
    guesses: tuple[int, ...] = ()


EndsItem = HeadItem | TailItem

# Work for the draft model


class DraftItem(Struct, frozen=True):
    """Read `tokens` at positions keep, keep + 1, ..., and guess the `n` that follow.

    `hints` are guesses from elsewhere at the first of them, fewer than `n`.
    """

    slot: Slot
    keep: int
    tokens: tuple[int, ...]
    hints: tuple[int, ...]
    n: int
    sampling: SamplingParams


# Effects


class RunEnds(Struct, frozen=True):
    """Compute these items; at most one `RunEnds` is out at a time.

    All items are heads, or all are tails with equal `rows` and `exact`; no
    session is in it twice.
    """

    items: tuple[EndsItem, ...]


class RunDraft(Struct, frozen=True):
    """Have the draft model compute these items; at most one `RunDraft` is out at a time.

    No slot is in it twice. Nothing waits for the answer but more guesses.
    """

    items: tuple[DraftItem, ...]


class OpenEnds(Struct, frozen=True):
    """Set up the session's sampler; comes before its first item."""

    session: SessionId
    slot: Slot
    request: GenerateRequest


class CloseEnds(Struct, frozen=True):
    """Forget the sampler and clear the slot in both ends; no item is running or follows.

    `keep`: what is in the caches stays.
    """

    session: SessionId
    slot: Slot
    keep: bool = False


class Send(Struct, frozen=True):
    """Send a window to the first stage."""

    window: Window
    payload: Payload


class SendCancel(Struct, frozen=True):
    """Sign a `Cancel` of the current epoch and send it to the first stage."""

    session: SessionId
    seq: int


class SendRelease(Struct, frozen=True):
    """Sign a `Release` of the current epoch and send it to the first stage."""

    session: SessionId
    slot: Slot


class Emit(Struct, frozen=True):
    """A token for the client; `sampled.finish` is set on the last one."""

    session: SessionId
    sampled: Sampled


class Admitted(Struct, frozen=True):
    """The session has a slot; it ends with `Finished` or `Failed`.

    `cached` tokens of its prompt were computed before. `tenant` is the number that
    stages know it by; None: the same.
    """

    session: SessionId
    cached: int = 0
    tenant: SessionId | None = None


class Rejected(Struct, frozen=True):
    """The session was not begun.

    Codes: "overloaded", "ring_down" (both worth another try in
    `retry_after_s`), "too_long", "bad_request", "cancelled" (while it waited).
    """

    session: SessionId
    code: str
    problem: str
    retry_after_s: int | None = None


class Finished(Struct, frozen=True):
    """The session's last token was emitted."""

    session: SessionId
    usage: Usage


class Failed(Struct, frozen=True):
    """The session ended early.

    Codes: "cancelled", "ring_down", "engine" (a computation failed), or the
    code of a frame that was refused (docs/reference/wire.md).
    """

    session: SessionId
    code: str
    problem: str
    usage: Usage


CoordinatorEvent = (
    Submit
    | CancelSession
    | Hold
    | EndsDone
    | EndsFailed
    | DraftDone
    | DraftGone
    | WindowReturned
    | WindowUnusable
    | ReleaseReturned
    | RejoinReturned
    | ParkingEvent
    | SessionRefused
    | Granted
    | RecordLost
    | Forget
    | RingUp
    | RingPaused
    | RingDown
)
CoordinatorEffect = (
    RunEnds
    | RunDraft
    | OpenEnds
    | CloseEnds
    | Send
    | ComebackEffect
    | SendCancel
    | SendRelease
    | ParkingEffect
    | Emit
    | Admitted
    | Rejected
    | Finished
    | Failed
    | GrantCredit
    | Refuse
)
