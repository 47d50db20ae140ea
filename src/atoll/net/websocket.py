"""The server's side of WebSocket, as much as a relay needs: one frame, one message.

Source: RFC 6455. Fragmented messages and extensions are refused, texts are no
use here, pings are answered by the caller.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import struct
from dataclasses import dataclass

from atoll.domain.errors import ProtocolFault

HEAD_BYTES_MAX = 8192
BINARY, CLOSE, PING, PONG = 2, 8, 9, 10
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclass(frozen=True, slots=True)
class Request:
    """A request's first line and fields, the fields' names in lower case."""

    method: str
    path: str
    fields: dict[str, str]


async def read_request(reader: asyncio.StreamReader) -> Request:
    """The head of one HTTP request.

    Raises:
        ProtocolFault: It is too long, ends too early, or is no HTTP.
    """
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise ProtocolFault("no request, or one with too long a head") from error
    if len(head) > HEAD_BYTES_MAX:
        raise ProtocolFault("the head of the request is too long")
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise ProtocolFault("that is not HTTP/1.1")
    fields = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            fields[name.strip().lower()] = value.strip()
    return Request(words[0], words[1].partition("?")[0], fields)


def upgrade(request: Request, protocol: str) -> bytes:
    """The answer that makes a connection a WebSocket speaking `protocol`.

    Raises:
        ProtocolFault: The client did not ask for that.
    """
    fields = request.fields
    offered = {word.strip() for word in fields.get("sec-websocket-protocol", "").split(",")}
    key = fields.get("sec-websocket-key", "")
    if "websocket" not in fields.get("upgrade", "").lower() or not key:
        raise ProtocolFault("the client asks for no WebSocket")
    if protocol not in offered:
        raise ProtocolFault(f"the client does not speak {protocol}")
    accept = base64.b64encode(hashlib.sha1(key.encode() + _GUID).digest())  # noqa: S324 - RFC 6455
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Protocol: " + protocol.encode() + b"\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )


async def read_message(reader: asyncio.StreamReader, bytes_max: int) -> tuple[int, bytes]:
    """The next message's kind and content.

    Raises:
        ProtocolFault: It is too long, fragmented, or not masked.
        asyncio.IncompleteReadError: The connection ended.
    """
    first, second = await reader.readexactly(2)
    if not first & 0x80 or first & 0x70:
        raise ProtocolFault("fragments and extensions of WebSocket are not spoken here")
    if not second & 0x80:
        raise ProtocolFault("a client must mask its frames")
    length = second & 0x7F
    if length == 126:
        (length,) = struct.unpack(">H", await reader.readexactly(2))
    elif length == 127:
        (length,) = struct.unpack(">Q", await reader.readexactly(8))
    if length > bytes_max:
        raise ProtocolFault(f"a message of {length} bytes, allowed are {bytes_max}")
    mask = await reader.readexactly(4)
    return first & 0x0F, unmasked(await reader.readexactly(length), mask)


def unmasked(content: bytes, mask: bytes) -> bytes:
    """`content` under the four bytes of `mask`, all at once: byte by byte is slow."""
    size = len(content)
    stream = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(content, "little") ^ int.from_bytes(stream, "little")).to_bytes(
        size, "little"
    )


def message(kind: int, content: bytes) -> bytes:
    """One whole message from the server."""
    size = len(content)
    if size < 126:
        return struct.pack(">BB", 0x80 | kind, size) + content
    if size < 1 << 16:
        return struct.pack(">BBH", 0x80 | kind, 126, size) + content
    return struct.pack(">BBQ", 0x80 | kind, 127, size) + content
