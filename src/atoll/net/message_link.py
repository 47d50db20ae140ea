"""Links that carry messages without payloads, each behind its length, and heartbeats."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar

import msgspec

from atoll.domain.bulk import BulkBeat, Parting
from atoll.domain.errors import LinkFault
from atoll.net.frames import MessageDecoder
from atoll.net.link import MessageHandler
from atoll.net.stream_link import PARTING_CHARS_MAX, StreamLink

_M = TypeVar("_M")
_LENGTH_BYTES = 4
_encode = msgspec.msgpack.Encoder().encode


class Speech(Generic[_M]):
    """What may be said on one kind of link.

    Args:
        name: What its messages are called in errors.
        messages: The union of their types; `BulkBeat` and `Parting` among them.
        problem_with: Why a message cannot be; empty where it can.
        bytes_max: Of one message.
    """

    def __init__(
        self, name: str, messages: Any, problem_with: Callable[[_M], str], bytes_max: int
    ) -> None:
        self._name, self._problem_with, self._bytes_max = name, problem_with, bytes_max
        self._decode: Callable[[bytes], _M] = msgspec.msgpack.Decoder(messages).decode

    def encode(self, message: _M) -> bytes:
        """One frame, ready to be written.

        Raises:
            ValueError: It is too long.
        """
        body = _encode(message)
        if len(body) > self._bytes_max:
            raise ValueError(f"{self._name} message of {len(body)} bytes")
        return len(body).to_bytes(_LENGTH_BYTES, "big") + body

    def decoder(self) -> MessageDecoder[_M]:
        """For one link."""
        return MessageDecoder(self._decode, self._problem_with, self._bytes_max)


class StreamMessageLink(StreamLink, Generic[_M]):
    """One of them over a stream; a kind says what is spoken."""

    speech: ClassVar[Speech[Any]]
    _handler: MessageHandler[_M]

    def start(self, handler: MessageHandler[_M]) -> None:
        """Begin to deliver; called once, within `handshake_s`."""
        self._handler = handler
        self._decoder: MessageDecoder[Any] = self.speech.decoder()
        self._begin()

    def send(self, message: _M) -> bool:
        """Write one message without waiting; False where the link is closed."""
        return self._write(self.speech.encode(message))

    def _beat(self, count: int) -> bytes:
        return self.speech.encode(BulkBeat(count))

    def _parting(self, reason: LinkFault) -> bytes:
        return self.speech.encode(
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
