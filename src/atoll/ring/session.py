"""Session: one generation as the coordinator sees it, from slot to release."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from atoll.domain.generation import GenerateRequest
from atoll.domain.ids import Epoch, SessionId, Slot
from atoll.domain.wire import ROWS_MAX, Window
from atoll.ring.coordinator_config import CoordinatorConfig
from atoll.ring.coordinator_messages import HeadItem, TailItem, Usage
from atoll.ring.drafting import Drafter
from atoll.ring.messages import Fault, Payload
from atoll.ring.pace import Pace
from atoll.ring.parking import Coming, shared_tokens
from atoll.ring.speculation import Speculation


@dataclass(frozen=True, slots=True)
class Sent:
    """A window that is on its way round: its number, first position and rows.

    `together` are the rows of all windows of its flight.
    """

    seq: int
    keep: int
    rows: int
    together: int


@dataclass(slots=True, eq=False)
class Session:
    """A session that holds a slot. `live` until its end was told to the client.

    Any number of its windows may be on their way (`out`, oldest first): a
    prompt's chunks overlap, and drafts will.
    """

    id: SessionId
    """The number that stages and ends know it by."""
    slot: Slot
    client: SessionId
    """The number that its client knows it by: another one where it took a slot over."""
    request: GenerateRequest
    encoding: str
    chunk_rows: int
    tokens_max: int
    """Tokens it may sample: the last one needs no position of the context."""
    live: bool = True
    opened: bool = True
    """The ends hold its sampler and KV."""
    at_ends: bool = False
    """An item of it is in the running `RunEnds`."""
    releasing: bool = False
    """Its release is on its way round."""
    entry: int = 0
    """How many of its tokens enter as a prompt does: those it began with."""
    entered: int = 0
    """How many of these were given to the head."""
    chunks: int = 0
    """Prefill windows between head and tail."""
    entering: int = 0
    """Rows of these."""
    sampled: int = 0
    next_seq: int = 0
    cancelled: int = -1
    """Windows up to this number are stale, wherever they are."""
    out: deque[Sent] = field(default_factory=deque)
    tokens: list[int] = field(default_factory=list)
    """Prompt and what was sampled; all but the last are in the caches once it has ended."""
    speculation: Speculation | None = None
    resting_since: int = 0
    """The tick at which it came to rest."""
    parks: bool = False
    """Its release leaves a parcel everywhere."""
    coming: Coming | None = None
    """The parcel it begins with, until that is loaded or lost."""
    held: bool = False
    """It computes no further than its prompt for now."""
    resumed: bool = False
    """Stages know it though no window of it was sent in this epoch."""
    passed: int = 0
    """Positions that have been everywhere, in the ring and at the ends."""
    rejoining: bool = False
    """Stages are told where it goes on."""

    @classmethod
    def begin(
        cls, session: SessionId, slot: Slot, request: GenerateRequest, config: CoordinatorConfig
    ) -> Session:
        """A session on a free slot, nothing of it computed."""
        return cls(
            id=session,
            slot=slot,
            client=session,
            request=request,
            tokens=list(request.known),
            entry=len(request.known),
            sampled=len(request.sampled),
            encoding=config.exact_encoding if request.exact else config.encoding,
            chunk_rows=config.exact_chunk_rows if request.exact else config.chunk_rows,
            tokens_max=min(request.max_tokens, config.context - len(request.prompt) + 1),
        )

    def resume(
        self, client: SessionId, request: GenerateRequest, config: CoordinatorConfig, *, keep: int
    ) -> None:
        """Another request goes on in this slot, of which the first `keep` tokens are computed."""
        fresh = Session.begin(client, self.slot, request, config)
        self.client, self.request, self.tokens = client, request, fresh.tokens
        self.encoding, self.chunk_rows = fresh.encoding, fresh.chunk_rows
        self.tokens_max, self.entry, self.entered = fresh.tokens_max, fresh.entry, keep
        self.sampled = fresh.sampled
        self.live = self.opened = True
        self.passed = keep
        self.held = False
        self.chunks = self.entering = 0
        self.speculation = None

    @property
    def is_known(self) -> bool:
        """Whether stages may hold something of it."""
        return bool(self.next_seq or self.resumed)

    @property
    def whole(self) -> int:
        """Positions that every part of the ring has computed."""
        return self.position if self.decoding else self.passed

    def pause(self) -> None:
        """What was on its way is lost, and so are the numbers of windows."""
        self.resumed = self.is_known
        self.next_seq, self.cancelled = 0, -1
        self.out.clear()
        self.rejoining = False

    def enter_again(self, keep: int) -> None:
        """All its tokens enter as a prompt, but for the first `keep`, which are computed."""
        self.entry, self.entered, self.passed = len(self.tokens), keep, keep
        self.chunks = self.entering = 0
        self.rejoining = False
        if self.speculation is not None:
            self.speculation.restart()

    def shared_with(self, request: GenerateRequest) -> int:
        """How many tokens of a request are computed here already.

        None of those of another group, or computed in another mode.
        """
        if (request.group, request.exact) != (self.request.group, self.request.exact):
            return 0
        return shared_tokens(self.computed, request.known)

    @property
    def computed(self) -> list[int]:
        """The tokens that are in the caches once it has ended."""
        return self.tokens[:-1]

    def guess(self, drafter: Drafter, pace: Pace, config: CoordinatorConfig) -> None:
        """Have its next tokens guessed."""
        self.speculation = Speculation(drafter, pace, config)

    @property
    def position(self) -> int:
        """Of the token that was sampled last."""
        return len(self.tokens) - 1

    @property
    def exact(self) -> bool:
        """Whether every bit must be the whole model's."""
        return self.request.exact

    @property
    def decoding(self) -> bool:
        """Whether what it began with is through, a token was sampled, and more are wanted."""
        return self.live and len(self.tokens) > self.entry

    @property
    def usage(self) -> Usage:
        """Tokens so far."""
        return Usage(len(self.request.prompt), self.sampled)

    @property
    def prompt_left(self) -> int:
        """Rows of the prompt that have not entered."""
        return self.entry - self.entered

    def next_rows(self, most: int = ROWS_MAX) -> int:
        """Rows of the next prefill window, if it may have `most`; 0: all have entered."""
        return min(self.chunk_rows, most, self.prompt_left)

    def next_chunk(self, most: int = ROWS_MAX) -> HeadItem:
        """The next prefill window's tokens; they count as entered."""
        keep, rows = self.entered, self.next_rows(most)
        self.entered += rows
        self.entering += rows
        self.chunks += 1
        tokens = tuple(self.tokens[keep : keep + rows])
        return HeadItem(self.id, self.slot, keep, tokens, self.exact, self.encoding)

    def chunk_back(self, rows: int) -> None:
        """A prefill window of so many rows has passed the tail."""
        self.chunks -= 1
        self.entering -= rows

    def next_guesses(self) -> list[HeadItem]:
        """The next window with a sampled token or guesses, if something is to be sent."""
        speculation = self.speculation
        if speculation is None or self.rejoining or self.held or not self.decoding:
            return []
        span = speculation.next_tokens(self.tokens_max - self.sampled)
        if span is None:
            return []
        tokens, keep = speculation.tokens(*span), self.position + span[0]
        return [HeadItem(self.id, self.slot, keep, tokens, self.exact, self.encoding)]

    def is_prompt(self, keep: int) -> bool:
        """Whether a window that begins at `keep` holds tokens that it began with."""
        return keep < self.entry

    def send(self, epoch: Epoch, keep: int, rows: int, follow: int, windows: int = 1) -> Window:
        """The next window's header, in a flight of so many; it counts as on its way."""
        seq = self.next_seq
        self.next_seq += 1
        self.out.append(Sent(seq, keep, rows, rows * windows))
        return Window(self.id, self.slot, epoch, seq, keep, rows, self.encoding, follow, self.exact)

    def wants(self, window: Window) -> bool:
        """Whether a window is of use: the session lives, and no wrong guess made it stale."""
        return self.live and window.seq > self.cancelled

    def fault_of(self, window: Window) -> Fault | None:
        """Why `window` is not the one due back, or None if it is."""
        if not self.out or window.seq != self.out[0].seq:
            due = self.out[0].seq if self.out else "none"
            return Fault("seq", f"window {window.seq} came back, {due} was due")
        sent = self.out[0]
        if window.slot != self.slot:
            return Fault("slot", f"the session holds slot {self.slot}, not {window.slot}")
        if window.keep != sent.keep:
            return Fault("keep", f"position {window.keep} came back for {sent.keep}")
        if window.rows != sent.rows:
            return Fault("rows", f"{window.rows} rows came back for {sent.rows}")
        if window.encoding != self.encoding or window.exact != self.exact:
            return Fault("encoding", f"encoding {window.encoding!r} was not asked for")
        return None

    def tail_item(self, window: Window, payload: Payload) -> TailItem:
        """What the ends do with a window of the session that came back."""
        sample = window.keep + window.rows >= self.entry
        checked = 1 if self.is_prompt(window.keep) else window.rows
        last = sample and self.sampled + checked >= self.tokens_max
        chain, guesses = sample and not last, tuple[int, ...]()
        if self.speculation is not None and not self.is_prompt(window.keep):
            guesses = self.speculation.guesses(window.rows)
            chain = chain and checked == 1 and self.speculation.chains(window.rows)
        return TailItem(
            session=self.id,
            slot=self.slot,
            keep=window.keep,
            rows=window.rows,
            payload=payload,
            exact=self.exact,
            encoding=self.encoding,
            sample=sample,
            chain=chain,
            last=last,
            checked=checked,
            guesses=guesses,
        )
