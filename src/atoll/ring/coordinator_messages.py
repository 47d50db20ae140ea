"""Events and effects of the `Coordinator`."""

from __future__ import annotations

from dataclasses import dataclass

from atoll.domain.generation import GenerateRequest, Sampled, SamplingParams
from atoll.domain.ids import Epoch, SessionId, Slot
from atoll.domain.wire import Park, Release, Window
from atoll.ring.messages import GrantCredit, Granted, ItemFailed, Payload, Refuse, WindowUnusable
from atoll.ring.parking_messages import ParkingEffect, ParkingEvent


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a session: those of its prompt, and those sampled (the end token too)."""

    prompt_tokens: int
    completion_tokens: int


# Events


@dataclass(frozen=True, slots=True)
class Submit:
    """A new session; answered with `Admitted` (perhaps later) or `Rejected`."""

    session: SessionId
    request: GenerateRequest


@dataclass(frozen=True, slots=True)
class CancelSession:
    """Nobody wants the rest: it ends `Failed` with code "cancelled" and its usage."""

    session: SessionId
    reason: str


@dataclass(frozen=True, slots=True)
class HeadDone:
    """The first layers' output for a `HeadItem`, encoded."""

    payload: Payload


@dataclass(frozen=True, slots=True)
class TailDone:
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


@dataclass(frozen=True, slots=True)
class EndsDone:
    """The running `RunEnds` is done; `results` are in the order of its items.

    `took_s` is what the ends took; 0 if that is not known.
    """

    results: tuple[EndsResult, ...]
    took_s: float = 0.0


@dataclass(frozen=True, slots=True)
class EndsFailed:
    """The running `RunEnds` failed as a whole."""

    problem: str


@dataclass(frozen=True, slots=True)
class DraftDone:
    """The running `RunDraft` is done: guesses of each item, None where it failed.

    `took_s` is what the draft model took.
    """

    guesses: tuple[tuple[int, ...] | None, ...]
    took_s: float = 0.0


@dataclass(frozen=True, slots=True)
class DraftGone:
    """The draft model is gone; what was asked of it will not be answered."""


@dataclass(frozen=True, slots=True)
class WindowReturned:
    """A window from the last stage; its payload has the length the header says.

    `lap_s` is how long it was on its way; 0 if that is not known.
    """

    window: Window
    payload: Payload
    lap_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ReleaseReturned:
    """A release or a park has gone once round; its signature is ours."""

    release: Release | Park


@dataclass(frozen=True, slots=True)
class SessionRefused:
    """A stage of the current epoch refused a window of this session or failed on it."""

    session: SessionId
    seq: int
    code: str
    problem: str


@dataclass(frozen=True, slots=True)
class Forget:
    """Release the caches that ended sessions left."""


@dataclass(frozen=True, slots=True)
class RingUp:
    """Every stage of `epoch` is ready and the links stand, with fresh credits."""

    epoch: Epoch


@dataclass(frozen=True, slots=True)
class RingDown:
    """The ring cannot go on; nothing of its epoch will be heard again."""

    problem: str


# Work for the ends


@dataclass(frozen=True, slots=True)
class HeadItem:
    """Run the first layers on `tokens` at positions keep, keep + 1, ...

    They are of the prompt, or sampled and guessed ones.
    """

    session: SessionId
    slot: Slot
    keep: int
    tokens: tuple[int, ...]
    exact: bool
    encoding: str


@dataclass(frozen=True, slots=True)
class TailItem:
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


@dataclass(frozen=True, slots=True)
class DraftItem:
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


@dataclass(frozen=True, slots=True)
class RunEnds:
    """Compute these items; at most one `RunEnds` is out at a time.

    All items are heads, or all are tails with equal `rows` and `exact`; no
    session is in it twice.
    """

    items: tuple[EndsItem, ...]


@dataclass(frozen=True, slots=True)
class RunDraft:
    """Have the draft model compute these items; at most one `RunDraft` is out at a time.

    No slot is in it twice. Nothing waits for the answer but more guesses.
    """

    items: tuple[DraftItem, ...]


@dataclass(frozen=True, slots=True)
class OpenEnds:
    """Set up the session's sampler; comes before its first item."""

    session: SessionId
    slot: Slot
    request: GenerateRequest


@dataclass(frozen=True, slots=True)
class CloseEnds:
    """Forget the sampler and clear the slot in both ends; no item is running or follows.

    `keep`: what is in the caches stays.
    """

    session: SessionId
    slot: Slot
    keep: bool = False


@dataclass(frozen=True, slots=True)
class Send:
    """Send a window to the first stage."""

    window: Window
    payload: Payload


@dataclass(frozen=True, slots=True)
class SendCancel:
    """Sign a `Cancel` of the current epoch and send it to the first stage."""

    session: SessionId
    seq: int


@dataclass(frozen=True, slots=True)
class SendRelease:
    """Sign a `Release` of the current epoch and send it to the first stage."""

    session: SessionId
    slot: Slot


@dataclass(frozen=True, slots=True)
class Emit:
    """A token for the client; `sampled.finish` is set on the last one."""

    session: SessionId
    sampled: Sampled


@dataclass(frozen=True, slots=True)
class Admitted:
    """The session has a slot; it ends with `Finished` or `Failed`.

    `cached` tokens of its prompt were computed before. `tenant` is the number that
    stages know it by; None: the same.
    """

    session: SessionId
    cached: int = 0
    tenant: SessionId | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """The session was not begun.

    Codes: "overloaded", "ring_down" (both worth another try in
    `retry_after_s`), "too_long", "bad_request", "cancelled" (while it waited).
    """

    session: SessionId
    code: str
    problem: str
    retry_after_s: int | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """The session's last token was emitted."""

    session: SessionId
    usage: Usage


@dataclass(frozen=True, slots=True)
class Failed:
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
    | EndsDone
    | EndsFailed
    | DraftDone
    | DraftGone
    | WindowReturned
    | WindowUnusable
    | ReleaseReturned
    | ParkingEvent
    | SessionRefused
    | Granted
    | Forget
    | RingUp
    | RingDown
)
CoordinatorEffect = (
    RunEnds
    | RunDraft
    | OpenEnds
    | CloseEnds
    | Send
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
