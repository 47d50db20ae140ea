"""The one interface of a link, whatever carries it.

A link joins two processes that know each other by key. It is a *data* link
(windows between neighbours), a *control* link (a node and its gateway), a *bulk*
link (shards, from whoever holds them), a *timing* link (how far two nodes are
from each other) or a *memory* link (blobs, to a node that lends its memory).
Frames arrive by plain callbacks, straight from the loop's read: a queue and a
task switch per frame would cost more than the frame. Callbacks therefore never
wait and never take long.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeVar

from atoll.domain.bulk import BulkMessage
from atoll.domain.control import ControlMessage
from atoll.domain.errors import LinkFault, ProtocolFault
from atoll.domain.ids import NodeId
from atoll.domain.lent_memory import MemoryMessage
from atoll.domain.timing import TimingMessage
from atoll.domain.wire import F32, ROWS_MAX, DataMessage, Window, row_bytes

_M_contra = TypeVar("_M_contra", contravariant=True)

Kind = Literal["control", "data", "bulk", "timing", "memory"]
CONTROL: Final = "control"
DATA: Final = "data"
BULK: Final = "bulk"
TIMING: Final = "timing"
MEMORY: Final = "memory"
KINDS: Final[tuple[Kind, ...]] = (CONTROL, DATA, BULK, TIMING, MEMORY)

SAME_VERSION: Final = "both sides must run the same version of atoll"
"""Hint of most faults in what a peer says."""

DataFrame = tuple[DataMessage, bytes]
"""A message and its payload; the payload is empty but for a window."""


class NotWelcome(LinkFault):
    """The other side knows who we are and does not want us."""


class WrongPeer(LinkFault):
    """Somebody answered who does not hold the key we expected."""


class LinkLost(LinkFault):
    """A link that stood and broke: closed by the peer, reset, or silent."""


class UnusableFrame(ProtocolFault):
    """A frame that is whole but wrong; those behind it can still be read.

    `window` is its header, where it is a window's whose numbers are in range.
    """

    def __init__(self, problem: str, window: Window | None = None) -> None:
        super().__init__(problem, hint=SAME_VERSION)
        self.window = window


def peer_text(text: str, chars_max: int) -> str:
    """`text` of a peer as it may reach a terminal or log: short, on one line, no controls."""
    return "".join(c if c.isprintable() else "?" for c in text[:chars_max])


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """Times and bounds of a link; the defaults are the product's.

    `heartbeat_s` between two beats, of which `missed_max` may be missed in a
    row. `buffer_bytes_max` may wait to be written before the link is given up
    as stuck, on a data link beside what its credits allow. `handshake_s` bounds
    dialing or accepting as a whole, and then the time until `start`. `close_s`
    is how long closing waits for the peer to take what was still to be written.
    """

    heartbeat_s: float = 1.0
    missed_max: int = 3
    buffer_bytes_max: int = 64 * 1024 * 1024
    handshake_s: float = 10.0
    close_s: float = 2.0


@dataclass(frozen=True, slots=True)
class DataLimits:
    """What a data link may carry: windows of at most `rows_max` rows of `n_embd` values.

    `windows_max` of them may wait to be written: as many as there are credits.
    """

    n_embd: int
    rows_max: int
    windows_max: int = 0

    def __post_init__(self) -> None:
        if not (1 <= self.rows_max <= ROWS_MAX and 1 <= self.n_embd <= 1 << 20):
            raise ValueError(f"limits out of range: {self}")

    @property
    def waiting_bytes_max(self) -> int:
        """Bytes that may wait to be written while the other side keeps to the rules."""
        return self.windows_max * self.rows_max * row_bytes(F32, self.n_embd)


class DataHandler(Protocol):
    """Who takes what arrives on a data link.

    A callback that raises `LinkFault` closes the link for that reason.
    """

    def on_frame(self, message: DataMessage, payload: bytes) -> None:
        """A valid frame; heartbeats and their answers are not delivered."""

    def on_unusable(self, fault: UnusableFrame) -> None:
        """A frame that is whole but wrong was dropped; raise `fault` to close the link."""

    def on_batch_end(self) -> None:
        """All frames that had arrived together were delivered."""

    def on_closed(self, reason: LinkFault | None) -> None:
        """Called once, last. None: we closed it ourselves."""


class ControlHandler(Protocol):
    """Who takes what arrives on a control link; rules as `DataHandler`."""

    def on_message(self, message: ControlMessage) -> None:
        """A valid message; heartbeats are not delivered."""

    def on_closed(self, reason: LinkFault | None) -> None:
        """Called once, last. None: we closed it ourselves."""


class MessageHandler(Protocol[_M_contra]):
    """Who takes what arrives on a link of messages alone; rules as `DataHandler`."""

    def on_message(self, message: _M_contra) -> None:
        """A valid message; heartbeats are not delivered."""

    def on_closed(self, reason: LinkFault | None) -> None:
        """Called once, last. None: we closed it ourselves."""


BulkHandler = MessageHandler[BulkMessage]
TimingHandler = MessageHandler[TimingMessage]
MemoryHandler = MessageHandler[MemoryMessage]


class Link(Protocol):
    """What all kinds of link can do."""

    @property
    def peer(self) -> NodeId:
        """Whose key the other side proved to hold."""

    @property
    def kind(self) -> Kind:
        """Which kind of link it is."""

    @property
    def peer_host(self) -> str:
        """The address the other side has, seen from here."""

    @property
    def carrier(self) -> str:
        """What carries it: "tls" or "quic"."""

    @property
    def peer_port(self) -> int:
        """The port that the other side has, seen from here; 0 if it is not known."""

    @property
    def local_host(self) -> str:
        """The address that this side has on the link; empty if it is not known."""

    @property
    def is_closed(self) -> bool:
        """Whether nothing more can be sent."""

    @property
    def buffered_bytes(self) -> int:
        """Bytes still to be written."""

    @property
    def sent_bytes(self) -> int:
        """Bytes that were given to it to be written, since it stands."""

    def close(self, reason: LinkFault | None = None) -> None:
        """Stop at once to deliver; write what waits, then end. A second call does nothing.

        With a `reason` the peer is told it, and `on_closed` gets it.
        """

    def doubt(self) -> None:
        """Something else speaks for the other side being gone.

        The link is given up where it was silent for most of the time that it may be.
        """

    async def wait_closed(self) -> LinkFault | None:
        """Wait until the link is gone; why, or None where we closed it ourselves."""


class DataLink(Link, Protocol):
    """A link between neighbours in the ring."""

    @property
    def round_trip_s(self) -> float | None:
        """The least of the last round trips; None before the first.

        What the other side answers is its own affair: to be shown, not to be relied on.
        """

    def start(self, handler: DataHandler, limits: DataLimits) -> None:
        """Begin to deliver, with what came before; called once, within `handshake_s`."""

    def send(self, message: DataMessage, payload: bytes = b"") -> bool:
        """Write one frame without waiting; False where the link is closed already.

        If more than `buffer_bytes_max` would wait, the link closes with a fault.
        """

    def send_flight(self, frames: Sequence[DataFrame]) -> bool:
        """Write several frames in one go; otherwise as `send`."""


class ControlLink(Link, Protocol):
    """A link between a node and its gateway."""

    def start(self, handler: ControlHandler) -> None:
        """Begin to deliver, with what came before; called once, within `handshake_s`."""

    def send(self, message: ControlMessage) -> bool:
        """Write one message without waiting; False where the link is closed already."""


class BulkLink(Link, Protocol):
    """A link between who has a shard and who wants it."""

    def start(self, handler: BulkHandler) -> None:
        """Begin to deliver, with what came before; called once, within `handshake_s`."""

    def send(self, message: BulkMessage) -> bool:
        """Write one message without waiting; False where the link is closed already."""


class TimingLink(Link, Protocol):
    """A link between two nodes that time the way between them."""

    def start(self, handler: TimingHandler) -> None:
        """Begin to deliver, with what came before; called once, within `handshake_s`."""

    def send(self, message: TimingMessage) -> bool:
        """Write one message without waiting; False where the link is closed already."""


class MemoryLink(Link, Protocol):
    """A link between a node that lends memory and one that keeps blobs there."""

    def start(self, handler: MemoryHandler) -> None:
        """Begin to deliver, with what came before; called once, within `handshake_s`."""

    def send(self, message: MemoryMessage) -> bool:
        """Write one message without waiting; False where the link is closed already."""


class ControlInbox:
    """A bounded queue of control messages, for whoever would rather wait for them.

    Iteration ends when the link was closed by us and raises its reason
    otherwise, after all that had arrived was given out.
    """

    def __init__(self, link: ControlLink, *, limit: int = 256) -> None:
        self._link = link
        self._limit = limit
        self._queue: asyncio.Queue[ControlMessage | LinkFault | None] = asyncio.Queue(limit + 1)
        link.start(self)

    def on_message(self, message: ControlMessage) -> None:
        """Queue it, or close the link that sends faster than we take."""
        if self._queue.qsize() >= self._limit:
            raise LinkFault(f"more than {self._limit} control messages wait to be handled")
        self._queue.put_nowait(message)

    def on_closed(self, reason: LinkFault | None) -> None:
        """Let the reader find the end; one place in the queue is kept for it."""
        self._queue.put_nowait(reason)

    async def __aiter__(self) -> AsyncIterator[ControlMessage]:
        while True:
            item = await self._queue.get()
            if item is None:
                return
            if isinstance(item, LinkFault):
                raise item
            yield item
