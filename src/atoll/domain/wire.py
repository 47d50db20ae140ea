"""What is said on a data link: small frozen structs, decoded once at the edge.

A frame is a header (one of `DataMessage`, msgpack, at most `HEADER_BYTES_MAX`)
and, for a window only, a payload of hidden states whose length follows from
`rows`, `encoding` and the model's width (`payload_bytes`).
"""

from __future__ import annotations

import msgspec

from atoll.domain.ids import Epoch, SessionId, Slot

HEADER_BYTES_MAX = 4096
ROWS_MAX = 4096
"""Most rows a window may hold whatever the plan says; bounds a frame's payload."""

F32 = "f32"
F16_SCALED = "f16s"
I8_BLOCKS = "i8b32"
ENCODINGS = (F32, F16_SCALED, I8_BLOCKS)

BLOCK_VALUES = 32
"""Values of `I8_BLOCKS` that share a scale; the last block of a row may have fewer."""


class Window(msgspec.Struct, frozen=True, tag="w", array_like=True):
    """A run of consecutive positions of one session, on its way round the ring.

    `keep` is also the first position: a stage drops what it holds at `keep`
    and beyond before it computes. `seq` counts the session's windows from 0
    without a gap. `follow` says how many windows of the same flight come right
    behind this one, so that a stage can compute them together. `exact` asks
    for f32 frames and engine calls that keep the whole model's bits.
    `engine_us` sums up what the stage processes took for it, microseconds.
    `replay`: its rows were sent before, to a stage that is lost; the one in its place
    computes them for its caches and sends them on only where the next one is new too.
    """

    session: SessionId
    slot: Slot
    epoch: Epoch
    seq: int
    keep: int
    rows: int
    encoding: str
    follow: int = 0
    exact: bool = False
    engine_us: int = 0
    replay: bool = False


class Cancel(msgspec.Struct, frozen=True, tag="x", array_like=True):
    """Windows of `session` up to and including `seq` are stale. Signed by the gateway."""

    session: SessionId
    epoch: Epoch
    seq: int
    signature: bytes = b""


class Release(msgspec.Struct, frozen=True, tag="r", array_like=True):
    """The session is over: forget it and free its slot. Signed by the gateway.

    It goes once round the ring behind the session's last window; when it comes
    back to the gateway the slot is free everywhere.
    """

    session: SessionId
    slot: Slot
    epoch: Epoch
    signature: bytes = b""


class Park(msgspec.Struct, frozen=True, tag="k", array_like=True):
    """The session rests: take its first `tokens` positions out, and free its slot. Signed.

    It goes round as a `Release` does. Each stage keeps what it took out as the parcel
    of the session's number, for as long as it likes.
    """

    session: SessionId
    slot: Slot
    epoch: Epoch
    tokens: int
    signature: bytes = b""


class Resume(msgspec.Struct, frozen=True, tag="u", array_like=True):
    """A session that nobody knows yet begins with a parcel's `tokens`. Signed but for `lost`.

    It goes once round before the session's first window. A stage that does not have the
    parcel any more sets `lost`, and the session begins with nothing. The parcel stays.
    """

    session: SessionId
    slot: Slot
    epoch: Epoch
    parcel: SessionId
    tokens: int
    lost: bool = False
    signature: bytes = b""


class Rejoin(msgspec.Struct, frozen=True, tag="j", array_like=True):
    """A session goes on in a new epoch behind its first `tokens` positions. Signed but for `lost`.

    It goes once round before the session's next window, and behind the replay of these
    positions where a stage is new. A stage that does not hold them sets `lost`, and the
    session begins at position 0.
    """

    session: SessionId
    slot: Slot
    epoch: Epoch
    tokens: int
    lost: bool = False
    signature: bytes = b""


class Discard(msgspec.Struct, frozen=True, tag="d", array_like=True):
    """Nobody wants this parcel any more. Signed by the gateway."""

    parcel: SessionId
    epoch: Epoch
    signature: bytes = b""


class Grant(msgspec.Struct, frozen=True, tag="g", array_like=True):
    """From receiver to sender: `frames` more windows may be sent."""

    frames: int


class Refused(msgspec.Struct, frozen=True, tag="n", array_like=True):
    """From receiver to sender: a frame that was not taken, and why."""

    session: SessionId
    seq: int
    code: str
    problem: str


class Ping(msgspec.Struct, frozen=True, tag="p", array_like=True):
    """Heartbeat, counted from 1; the link answers with a `Pong`, the program hears of neither."""

    count: int


class Pong(msgspec.Struct, frozen=True, tag="a", array_like=True):
    """The answer to the heartbeat of this number, at once: the round trip is the way's length."""

    count: int


Order = Cancel | Release | Park | Resume | Rejoin | Discard
"""What the gateway signs."""

DataMessage = Window | Order | Grant | Refused | Ping | Pong


def row_bytes(encoding: str, n_embd: int) -> int:
    """Bytes of one row of hidden states, shape (n_embd,), in `encoding`.

    f32: four bytes a value. f16s: two bytes a value, and after all rows
    one signed byte for each, its power-of-two exponent. i8b32: one byte a value,
    and after all rows two bytes for each block of 32 (docs/reference/wire.md).

    Raises:
        ValueError: `encoding` is not one of `ENCODINGS`.
    """
    if encoding == F32:
        return 4 * n_embd
    if encoding == F16_SCALED:
        return 1 + 2 * n_embd
    if encoding == I8_BLOCKS:
        return n_embd + 2 * -(-n_embd // BLOCK_VALUES)
    raise ValueError(f"unknown encoding {encoding!r}")


def row_parts(encoding: str, n_embd: int) -> tuple[int, int]:
    """Bytes of a row's values, which lie first, and of what scales them, behind all rows."""
    whole = row_bytes(encoding, n_embd)
    values = {F32: 4, F16_SCALED: 2, I8_BLOCKS: 1}[encoding] * n_embd
    return values, whole - values


def payload_bytes(window: Window, n_embd: int) -> int:
    """Exact length of the payload that goes with `window`, bytes."""
    return window.rows * row_bytes(window.encoding, n_embd)


def signed_part(message: Order) -> bytes:
    """The bytes the gateway signs: the message without its signature and what stages say in it."""
    bare = msgspec.structs.replace(message, signature=b"")
    if isinstance(bare, Resume | Rejoin):
        bare = msgspec.structs.replace(bare, lost=False)
    return b"atoll-data-1" + msgspec.msgpack.encode(bare)
