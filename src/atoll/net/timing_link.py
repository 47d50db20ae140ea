"""The kind of link on which two nodes time the way between them."""

from __future__ import annotations

import msgspec

from atoll.domain.bulk import BulkBeat, Parting
from atoll.domain.errors import LinkFault
from atoll.domain.timing import TIMING_BYTES_MAX, TimingMessage, hail_problem
from atoll.net.frames import MessageDecoder
from atoll.net.link import TIMING, TimingHandler
from atoll.net.stream_link import PARTING_CHARS_MAX, StreamLink

_LENGTH_BYTES = 4
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(TimingMessage).decode


def encode_timing(message: TimingMessage) -> bytes:
    """One frame of a timing link, ready to be written."""
    body = _encode(message)
    if len(body) > TIMING_BYTES_MAX:
        raise ValueError(f"timing message of {len(body)} bytes")
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


class StreamTimingLink(StreamLink):
    """A `TimingLink` over a stream."""

    kind = TIMING
    _handler: TimingHandler

    def start(self, handler: TimingHandler) -> None:
        """Begin to deliver; called once, within `handshake_s`."""
        self._handler = handler
        self._decoder = MessageDecoder[TimingMessage](_decode, hail_problem, TIMING_BYTES_MAX)
        self._begin()

    def send(self, message: TimingMessage) -> bool:
        """Write one message without waiting; False where the link is closed."""
        return self._write(encode_timing(message))

    def _beat(self, count: int) -> bytes:
        return encode_timing(BulkBeat(count))

    def _parting(self, reason: LinkFault) -> bytes:
        return encode_timing(
            Parting(reason.problem[:PARTING_CHARS_MAX], reason.hint[:PARTING_CHARS_MAX])
        )

    def _deliver(self, data: bytes) -> None:
        for message in self._decoder.feed(data):
            if type(message) is BulkBeat:
                continue
            if type(message) is Parting:
                self._part(message.problem)
                return
            self._handler.on_message(message)
            if self._ending:
                return

    def _tell_closed(self, reason: LinkFault | None) -> None:
        self._handler.on_closed(reason)
