"""The socket pair between a parent and its engine child.

A message is 4 bytes header length, 4 bytes payload length (little-endian),
a msgpack header and a payload. The child reads and writes blocking, into one
buffer that is kept; the parent feeds what it received to a `Splitter`.
"""

from __future__ import annotations

import socket
import struct
from typing import Generic, TypeVar

import msgspec

from atoll.domain.errors import EngineFault

LENGTHS = struct.Struct("<II")
HEADER_BYTES_MAX = 8 * 1024 * 1024
PAYLOAD_BYTES_MAX = 256 * 1024 * 1024
SOCKET_BUFFER_BYTES = 4 * 1024 * 1024
READ_BYTES = 256 * 1024

In = TypeVar("In")


class Broken(msgspec.Struct, frozen=True, tag="broken"):
    """From any child: it cannot go on, and ends after this."""

    problem: str
    hint: str = ""


def pack(header: bytes, *payloads: bytes | memoryview) -> bytes:
    """One message as bytes ready to be written."""
    size = sum(len(p) for p in payloads)
    return b"".join((LENGTHS.pack(len(header), size), header, *payloads))


class Splitter(Generic[In]):
    """Bytes in, whole messages out; sans-IO.

    Args:
        decoder: Decodes a header into the union of messages expected.
    """

    def __init__(self, decoder: msgspec.msgpack.Decoder[In]) -> None:
        self._decoder = decoder
        self._buffer = bytearray()
        self._wanted = LENGTHS.size  # bytes of the message that has begun

    def feed(self, data: bytes | memoryview) -> list[tuple[In, bytes]]:
        """Messages completed by `data`, with their payloads.

        Raises:
            EngineFault: The other side broke the framing.
        """
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < self._wanted:
                return []
            data = bytes(self._buffer)
            self._buffer.clear()
        self._wanted = LENGTHS.size
        messages: list[tuple[In, bytes]] = []
        at, size = 0, len(data)
        while size - at >= LENGTHS.size:
            header_size, payload_size = LENGTHS.unpack_from(data, at)
            if header_size > HEADER_BYTES_MAX or payload_size > PAYLOAD_BYTES_MAX:
                raise EngineFault("an engine process sent a message beyond its bounds")
            start = at + LENGTHS.size
            middle, end = start + header_size, start + header_size + payload_size
            if end > size:
                self._wanted = end - at
                break
            try:
                message = self._decoder.decode(data[start:middle])
            except msgspec.MsgspecError as error:
                raise EngineFault(f"an engine process sent a bad message: {error}") from error
            messages.append((message, bytes(data[middle:end])))
            at = end
        if at < size:
            self._buffer += data[at:]
        return messages


class ChildChannel(Generic[In]):
    """The child's blocking end.

    Args:
        connection: The inherited socket.
        decoder: Decodes the requests it may receive.
    """

    def __init__(self, connection: socket.socket, decoder: msgspec.msgpack.Decoder[In]) -> None:
        self._socket = connection
        self._splitter = Splitter(decoder)
        self._ready: list[tuple[In, bytes]] = []
        self._buffer = bytearray(READ_BYTES)
        self._encoder = msgspec.msgpack.Encoder()

    def receive(self) -> tuple[In, bytes] | None:
        """The next request; None when the parent is gone."""
        while not self._ready:
            try:
                size = self._socket.recv_into(self._buffer)
            except ConnectionResetError:
                return None
            if size == 0:
                return None
            self._ready = self._splitter.feed(memoryview(self._buffer)[:size])
        return self._ready.pop(0)

    def send(self, message: msgspec.Struct, *payloads: bytes | memoryview) -> None:
        """Send one message whole.

        Raises:
            SystemExit: The parent is gone; nobody is left to work for.
        """
        try:
            self._socket.sendall(pack(self._encoder.encode(message), *payloads))
        except (BrokenPipeError, ConnectionResetError):
            raise SystemExit(0) from None


def widen_buffers(connection: socket.socket) -> None:
    """Let a whole prefill window fit the socket, so that neither side waits for the other."""
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        connection.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER_BYTES)
