"""The kind of link on which blobs go to a node that lends its memory, and come back."""

from __future__ import annotations

import msgspec

from atoll.domain.bulk import BulkBeat, Parting
from atoll.domain.errors import LinkFault
from atoll.domain.lent_memory import MEMORY_BYTES_MAX, MemoryMessage, memory_problem
from atoll.net.frames import MessageDecoder
from atoll.net.link import MEMORY, MemoryHandler
from atoll.net.stream_link import PARTING_CHARS_MAX, StreamLink

_LENGTH_BYTES = 4
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(MemoryMessage).decode


def encode_memory(message: MemoryMessage) -> bytes:
    """One frame of a memory link, ready to be written."""
    body = _encode(message)
    if len(body) > MEMORY_BYTES_MAX:
        raise ValueError(f"memory message of {len(body)} bytes")
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


def memory_decoder() -> MessageDecoder[MemoryMessage]:
    """For one memory link."""
    return MessageDecoder(_decode, memory_problem, MEMORY_BYTES_MAX)


class StreamMemoryLink(StreamLink):
    """A `MemoryLink` over a stream."""

    kind = MEMORY
    _handler: MemoryHandler

    def start(self, handler: MemoryHandler) -> None:
        """Begin to deliver; called once, within `handshake_s`."""
        self._handler = handler
        self._decoder = memory_decoder()
        self._begin()

    def send(self, message: MemoryMessage) -> bool:
        """Write one message without waiting; False where the link is closed."""
        return self._write(encode_memory(message))

    def _beat(self, count: int) -> bytes:
        return encode_memory(BulkBeat(count))

    def _parting(self, reason: LinkFault) -> bytes:
        return encode_memory(
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
