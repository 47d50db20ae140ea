"""The kinds of link over a stream: what each says, and in which frames."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from atoll.domain.bulk import BULK_BYTES_MAX, BulkMessage, bulk_problem
from atoll.domain.control import Beat, ControlMessage, Refusal
from atoll.domain.errors import LinkFault
from atoll.domain.ids import NodeId, SessionId
from atoll.domain.wire import DataMessage, Ping, Pong, Refused
from atoll.net.frames import (
    DataDecoder,
    control_decoder,
    encode,
    encode_control,
    encode_many,
)
from atoll.net.link import (
    BULK,
    CONTROL,
    DATA,
    MEMORY,
    TIMING,
    ControlHandler,
    DataFrame,
    DataHandler,
    DataLimits,
    Kind,
    LinkSettings,
    UnusableFrame,
)
from atoll.net.memory_link import StreamMemoryLink
from atoll.net.message_link import Speech, StreamMessageLink
from atoll.net.pulse import Pulse
from atoll.net.stream_link import PARTING_CHARS_MAX, StreamLink
from atoll.net.timing_link import StreamTimingLink

LINK_CODE = "link"
"""Code of the `Refused` that says why the sender closes the whole link."""
_NO_SESSION = SessionId(0)


class StreamDataLink(StreamLink):
    """A `DataLink` over a stream."""

    kind = DATA
    _handler: DataHandler
    _decoder: DataDecoder

    def __init__(
        self, transport: asyncio.Transport, peer: NodeId, settings: LinkSettings, early: bytes
    ) -> None:
        self._pulse = Pulse()
        super().__init__(transport, peer, settings, early)

    @property
    def round_trip_s(self) -> float | None:
        """The least of the last round trips; None before the first."""
        return self._pulse.round_trip_s

    def start(self, handler: DataHandler, limits: DataLimits) -> None:
        """Begin to deliver; called once, within `handshake_s`."""
        self._handler = handler
        self._decoder = DataDecoder(limits)
        self._buffer_bytes_max += limits.waiting_bytes_max
        self._begin()

    def send(self, message: DataMessage, payload: bytes = b"") -> bool:
        """Write one frame without waiting; False where the link is closed."""
        return self._write(encode(message, payload))

    def send_flight(self, frames: Sequence[DataFrame]) -> bool:
        """Write several frames in one go; False where the link is closed."""
        return self._write(encode_many(frames))

    def _beat(self, count: int) -> bytes:
        self._pulse.sent(count, now_s=time.perf_counter())
        return encode(Ping(count))

    def _parting(self, reason: LinkFault) -> bytes:
        return encode(
            Refused(
                session=_NO_SESSION, seq=0, code=LINK_CODE, problem=str(reason)[:PARTING_CHARS_MAX]
            )
        )

    def _deliver(self, data: bytes) -> None:
        handler = self._handler
        any_delivered = has_answered = False
        while True:
            try:
                for message, payload in self._decoder.feed(data):
                    if type(message) is Ping:
                        # Of those that came together one: an answer never makes more of them.
                        if not has_answered:
                            has_answered = True
                            if not self.send(Pong(message.count)):
                                return
                        continue
                    if type(message) is Pong:
                        self._pulse.answered(message.count, now_s=time.perf_counter())
                        continue
                    if type(message) is Refused and message.code == LINK_CODE:
                        self._part(message.problem)
                        break
                    any_delivered = True
                    handler.on_frame(message, payload)
                    if self._ending:
                        return
                break
            except UnusableFrame as fault:
                handler.on_unusable(fault)
                if self._ending:
                    return
                data = b""  # the decoder has kept what came behind
        if any_delivered:
            handler.on_batch_end()

    def _tell_closed(self, reason: LinkFault | None) -> None:
        self._handler.on_closed(reason)


class StreamControlLink(StreamLink):
    """A `ControlLink` over a stream."""

    kind = CONTROL
    _handler: ControlHandler

    def start(self, handler: ControlHandler) -> None:
        """Begin to deliver; called once, within `handshake_s`."""
        self._handler = handler
        self._decoder = control_decoder()
        self._begin()

    def send(self, message: ControlMessage) -> bool:
        """Write one message without waiting; False where the link is closed."""
        return self._write(encode_control(message))

    def _beat(self, count: int) -> bytes:
        return encode_control(Beat(count))

    def _parting(self, reason: LinkFault) -> bytes:
        return encode_control(
            Refusal(reason.problem[:PARTING_CHARS_MAX], reason.hint[:PARTING_CHARS_MAX])
        )

    def _deliver(self, data: bytes) -> None:
        for message in self._decoder.feed(data):
            if type(message) is Beat:
                continue
            self._handler.on_message(message)
            if self._ending:
                return

    def _tell_closed(self, reason: LinkFault | None) -> None:
        self._handler.on_closed(reason)


class StreamBulkLink(StreamMessageLink[BulkMessage]):
    """A `BulkLink` over a stream."""

    kind = BULK
    speech = Speech[BulkMessage]("bulk", BulkMessage, bulk_problem, BULK_BYTES_MAX)


LINK_TYPES: dict[
    Kind,
    type[StreamControlLink | StreamDataLink | StreamBulkLink | StreamTimingLink | StreamMemoryLink],
] = {
    CONTROL: StreamControlLink,
    DATA: StreamDataLink,
    BULK: StreamBulkLink,
    TIMING: StreamTimingLink,
    MEMORY: StreamMemoryLink,
}
