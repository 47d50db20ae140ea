"""Frames of all kinds of link: bytes to checked messages and back.

Pure: no socket, clock or task. A data frame is the header's length (4 bytes,
big-endian), the payload's length (4 bytes), the header (msgpack of one
`DataMessage`) and the payload. A control or bulk frame is a length (4 bytes)
and the msgpack of one `ControlMessage` or `BulkMessage`. Decoders are fed bytes
as they come, cut anywhere, and give the frames up to the first that is wrong.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, NoReturn, TypeVar

import msgspec

from atoll.domain.control import (
    CONTROL_BYTES_MAX,
    Beat,
    ControlMessage,
    Echo,
    EchoBack,
    Fetching,
    Join,
    Lend,
    NotPrefetched,
    Prefetch,
    Prefetched,
    Prefetching,
    Ready,
    SessionFailed,
    StageReport,
    StageUnlinked,
    StandsBy,
)
from atoll.domain.errors import ProtocolFault
from atoll.domain.ids import Epoch
from atoll.domain.joining import join_problem
from atoll.domain.lent_memory import (
    Borrower,
    BorrowerGone,
    Lent,
    MemoryGone,
    MemoryHere,
    lending_problem,
)
from atoll.domain.prefetch import prefetch_problem
from atoll.domain.timing import TimePeer, order_problem
from atoll.domain.wire import (
    ENCODINGS,
    F32,
    HEADER_BYTES_MAX,
    Cancel,
    DataMessage,
    Discard,
    Grant,
    Order,
    Park,
    Ping,
    Pong,
    Refused,
    Rejoin,
    Release,
    Resume,
    Window,
    row_bytes,
)
from atoll.net.link import SAME_VERSION, DataFrame, DataLimits, UnusableFrame
from atoll.net.pairing import problem_of_pairing

_DATA_PREFIX = struct.Struct(">II")
_LENGTH_PREFIX = struct.Struct(">I")

SLOT_LIMIT = 256
"""llama.cpp's LLAMA_MAX_SEQ: no sequence id reaches it."""
POSITION_LIMIT = 1 << 31
"""Positions and rows are 32-bit signed numbers in the engine."""
NUMBER_LIMIT = 1 << 63
GRANT_LIMIT = 1 << 16
FOLLOW_LIMIT = SLOT_LIMIT
SIGNATURE_BYTES = 64
_PROBLEM_CHARS_MAX = 1024

_encode = msgspec.msgpack.Encoder().encode
_decode_data: Callable[[bytes], DataMessage] = msgspec.msgpack.Decoder(DataMessage).decode
_decode_control: Callable[[bytes], ControlMessage] = msgspec.msgpack.Decoder(ControlMessage).decode
_M = TypeVar("_M")


def encode(message: DataMessage, payload: bytes = b"") -> bytes:
    """One data frame, ready to be written."""
    header = _encode(message)
    if len(header) > HEADER_BYTES_MAX:
        raise ValueError(f"header of {len(header)} bytes")
    return b"".join((_DATA_PREFIX.pack(len(header), len(payload)), header, payload))


def encode_many(frames: Iterable[DataFrame]) -> bytes:
    """The frames of one flight, joined for one write."""
    parts: list[bytes] = []
    for message, payload in frames:
        header = _encode(message)
        if len(header) > HEADER_BYTES_MAX:
            raise ValueError(f"header of {len(header)} bytes")
        parts += (_DATA_PREFIX.pack(len(header), len(payload)), header, payload)
    return b"".join(parts)


def encode_control(message: ControlMessage) -> bytes:
    """One control frame, ready to be written."""
    body = _encode(message)
    if len(body) > CONTROL_BYTES_MAX:
        raise ValueError(f"control message of {len(body)} bytes")
    return _LENGTH_PREFIX.pack(len(body)) + body


class DataDecoder:
    """Bytes of one data link in, checked frames out.

    Holds at most one frame's bytes, and after an `UnusableFrame` what came with
    it. After any other fault it gives nothing more.
    """

    def __init__(self, limits: DataLimits) -> None:
        self._limits = limits
        self._row_bytes = {name: row_bytes(name, limits.n_embd) for name in ENCODINGS}
        self._payload_max = limits.rows_max * self._row_bytes[F32]
        self._partial = bytearray()
        self._behind = b""
        self._fault: ProtocolFault | None = None

    def feed(self, data: bytes) -> Iterator[DataFrame]:
        """The frames that `data` completes; exhaust it before feeding again.

        Raises:
            UnusableFrame: A header is malformed, or a window out of range or
                not as long as it says. Frames before it were given; feed again
                (nothing will do) for those behind it.
            ProtocolFault: A frame is too long, or another message is out of range.
        """
        if self._fault is not None:
            raise self._fault
        if self._behind:
            data, self._behind = self._behind + data, b""
        at = 0
        if self._partial:
            at = self._fill(data)
            if at < 0:
                return
            whole = bytes(self._partial)
            self._partial = bytearray()
            try:
                frame = self._frame(whole, 0, *self._lengths(whole, 0))
            except UnusableFrame:
                self._behind = data[at:]
                raise
            yield frame
        end = len(data)
        while end - at >= 8:
            header_bytes, payload_bytes = self._lengths(data, at)
            stop = at + 8 + header_bytes + payload_bytes
            if stop > end:
                break
            try:
                frame = self._frame(data, at, header_bytes, payload_bytes)
            except UnusableFrame:
                self._behind = data[stop:]
                raise
            yield frame
            at = stop
        if at < end:
            self._partial += data[at:] if at else data

    def _fill(self, data: bytes) -> int:
        """Take from `data` what the begun frame lacks; -1 if it still lacks some."""
        partial = self._partial
        at = 0
        if len(partial) < 8:
            at = 8 - len(partial)
            partial += data[:at]
            if len(partial) < 8:
                return -1
        header_bytes, payload_bytes = self._lengths(partial, 0)
        lacking = 8 + header_bytes + payload_bytes - len(partial)
        partial += data[at : at + lacking]
        return at + lacking if at + lacking <= len(data) else -1

    def _lengths(self, data: bytes | bytearray, at: int) -> tuple[int, int]:
        header_bytes, payload_bytes = _DATA_PREFIX.unpack_from(data, at)
        if not 0 < header_bytes <= HEADER_BYTES_MAX:
            self._fail(f"header of {header_bytes} bytes, allowed are 1 to {HEADER_BYTES_MAX}")
        if payload_bytes > self._payload_max:
            self._fail(f"payload of {payload_bytes} bytes, allowed are {self._payload_max}")
        return header_bytes, payload_bytes

    def _frame(self, data: bytes, at: int, header_bytes: int, payload_bytes: int) -> DataFrame:
        middle = at + 8 + header_bytes
        try:
            message = _decode_data(data[at + 8 : middle])
        except (ValueError, RecursionError) as error:
            raise UnusableFrame(f"malformed header: {error}") from error
        if isinstance(message, Window):
            self._check_window(message, payload_bytes)
            return message, data[middle : middle + payload_bytes]
        if payload_bytes:
            self._fail(f"{type(message).__name__} with a payload of {payload_bytes} bytes")
        problem = _problem_with(message)
        if problem:
            self._fail(f"{type(message).__name__}: {problem}")
        return message, b""

    def _check_window(self, window: Window, payload_bytes: int) -> None:
        row = self._row_bytes.get(window.encoding)
        if (
            row is not None
            and 1 <= window.rows <= self._limits.rows_max
            and payload_bytes == window.rows * row
            and _numbers_ok(window)
        ):
            return
        if not _numbers_ok(window):
            raise UnusableFrame("Window: a number is out of range")
        if row is None:
            problem = f"unknown encoding {window.encoding[:32]!r}"
        elif not 1 <= window.rows <= self._limits.rows_max:
            problem = f"{window.rows} rows, allowed are 1 to {self._limits.rows_max}"
        else:
            problem = (
                f"payload of {payload_bytes} bytes, {window.rows} rows in"
                f" {window.encoding} take {window.rows * row}"
            )
        raise UnusableFrame(f"Window: {problem}", window)

    def _fail(self, problem: str) -> NoReturn:
        self._fault = ProtocolFault(problem, hint=SAME_VERSION)
        self._partial = bytearray()
        raise self._fault


class MessageDecoder(Generic[_M]):
    """Bytes of a link without payloads in, checked messages out; otherwise as `DataDecoder`."""

    def __init__(
        self, decode: Callable[[bytes], _M], problem_with: Callable[[_M], str], bytes_max: int
    ) -> None:
        self._decode, self._problem_with, self._bytes_max = decode, problem_with, bytes_max
        self._buffer = bytearray()
        self._fault: ProtocolFault | None = None

    def feed(self, data: bytes) -> Iterator[_M]:
        """The messages that `data` completes; exhaust it before feeding again.

        Raises:
            ProtocolFault: A message is too long, malformed or out of range.
        """
        if self._fault is not None:
            raise self._fault
        self._buffer += data
        at = 0
        try:
            while len(self._buffer) - at >= 4:
                (length,) = _LENGTH_PREFIX.unpack_from(self._buffer, at)
                if not 0 < length <= self._bytes_max:
                    self._fail(f"message of {length} bytes, allowed are 1 to {self._bytes_max}")
                if len(self._buffer) - at < 4 + length:
                    break
                message = self._message(bytes(self._buffer[at + 4 : at + 4 + length]))
                at += 4 + length
                yield message
        finally:
            del self._buffer[:at]

    def _message(self, body: bytes) -> _M:
        try:
            message = self._decode(body)
        except (ValueError, RecursionError) as error:
            self._fail(f"malformed message: {error}")
        problem = self._problem_with(message)
        if problem:
            self._fail(f"{type(message).__name__}: {problem}")
        return message

    def _fail(self, problem: str) -> NoReturn:
        self._fault = ProtocolFault(problem, hint=SAME_VERSION)
        raise self._fault


def control_decoder() -> MessageDecoder[ControlMessage]:
    """For one control link."""
    return MessageDecoder(_decode_control, _problem_with_control, CONTROL_BYTES_MAX)


def _numbers_ok(window: Window) -> bool:
    return (
        0 <= window.session < NUMBER_LIMIT
        and 0 <= window.slot < SLOT_LIMIT
        and 0 <= window.seq < NUMBER_LIMIT
        and 0 <= window.keep < POSITION_LIMIT
        and 0 <= window.follow < FOLLOW_LIMIT
        and 0 <= window.engine_us < NUMBER_LIMIT
        and _epoch_ok(window.epoch)
    )


def _epoch_ok(epoch: Epoch) -> bool:
    return 0 <= epoch.incarnation < NUMBER_LIMIT and 0 <= epoch.counter < NUMBER_LIMIT


def _problem_with(message: Order | Grant | Refused | Ping | Pong) -> str:
    """What is wrong with a message that is no window; empty if nothing is."""
    match message:
        case Cancel():
            return _order_problem(message, (message.session, message.seq))
        case Release():
            return _slot_problem(message) or _order_problem(message, (message.session,))
        case Park() | Resume() | Rejoin():
            if not 1 <= message.tokens < POSITION_LIMIT:
                return f"{message.tokens} tokens is out of range"
            parcel = message.parcel if isinstance(message, Resume) else 0
            return _slot_problem(message) or _order_problem(message, (message.session, parcel))
        case Discard():
            return _order_problem(message, (message.parcel,))
        case Grant():
            frames = message.frames
            return "" if 1 <= frames <= GRANT_LIMIT else f"{frames} frames is out of range"
        case Refused():
            if len(message.code) > 64 or len(message.problem) > _PROBLEM_CHARS_MAX:
                return "its text is too long"
            return _range_problem((message.session, message.seq))
        case Ping() | Pong():
            return _range_problem((message.count,))


def _slot_problem(order: Release | Park | Resume | Rejoin) -> str:
    return "" if 0 <= order.slot < SLOT_LIMIT else f"slot {order.slot} is out of range"


def _order_problem(order: Order, numbers: tuple[int, ...]) -> str:
    if not _epoch_ok(order.epoch):
        return "its epoch is out of range"
    if len(order.signature) not in {0, SIGNATURE_BYTES}:
        return f"a signature of {len(order.signature)} bytes"
    return _range_problem(numbers)


def _problem_with_control(message: ControlMessage) -> str:
    """What is wrong with a control message; empty if nothing is."""
    match message:
        case Join():
            return join_problem(message)
        case Lend():
            return _range_problem((message.first, message.last))
        case Prefetch() | Prefetching() | Prefetched() | NotPrefetched():
            return prefetch_problem(message)
        case Fetching() | Ready() | StageReport() | SessionFailed() | StageUnlinked() | StandsBy():
            return _measure_problem(message)
        case Echo() | EchoBack():
            return _range_problem((message.number,))
        case Beat():
            return _range_problem((message.count,))
        case TimePeer():
            return order_problem(message)
        case MemoryHere() | MemoryGone() | Borrower() | BorrowerGone() | Lent():
            return lending_problem(message)
        case _:
            return problem_of_pairing(message)


def _measure_problem(
    message: Fetching | Ready | StageReport | SessionFailed | StageUnlinked | StandsBy,
) -> str:
    """What is wrong with a report: any of its numbers that none can be."""
    if not _epoch_ok(message.epoch):
        return "its epoch is out of range"
    for value in msgspec.structs.astuple(message):
        # NaN is neither; what is larger has no number of milliseconds that JSON could tell.
        if isinstance(value, float) and not 0 <= value < NUMBER_LIMIT:
            return f"{value} s is no time"
        if isinstance(value, int) and not 0 <= value < NUMBER_LIMIT:
            return "a number is out of range"
    if isinstance(message, Ready):
        texts = (message.device, message.bits.digest if message.bits is not None else "")
        if max(map(len, texts)) > 255:
            return "a text is longer than 255 characters"
    return ""


def _range_problem(numbers: tuple[int, ...]) -> str:
    return "" if all(0 <= n < NUMBER_LIMIT for n in numbers) else "a number is out of range"
