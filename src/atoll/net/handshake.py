"""Who dials proves its key: the exchange that opens a link inside TLS.

Pure: random bytes and keys arrive as arguments. TLS has proved the server's
key to the client before. The server then sends a fresh challenge; the client
answers with its key, the kind of link, and a signature over both sides' nonces
and keys, so that it is good for this server and this connection alone. The
server's verdict ends it. Messages: length (4 bytes, big-endian), msgpack.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import msgspec

from atoll.domain.errors import LinkFault, ProtocolFault
from atoll.domain.ids import NodeId
from atoll.net.identity import Identity, verify
from atoll.net.link import KINDS, Kind, NotWelcome, peer_text

VERSION = 1
NONCE_BYTES = 32
MESSAGE_BYTES_MAX = 4096
_TEXT_CHARS_MAX = 400
_DOMAIN = b"atoll-link-1\x00"
_PREFIX = struct.Struct(">I")


class Challenge(msgspec.Struct, frozen=True, tag="challenge"):
    """Server to client: sign this."""

    version: int
    nonce: bytes


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """Client to server: who I am and what I want."""

    version: int
    kind: str
    key: bytes
    nonce: bytes
    signature: bytes


class Verdict(msgspec.Struct, frozen=True, tag="verdict"):
    """Server to client: whether the link stands; if not, why."""

    welcome: bool
    problem: str = ""
    hint: str = ""


Message = Challenge | Hello | Verdict
_encode = msgspec.msgpack.Encoder().encode
_decode: Callable[[bytes], Message] = msgspec.msgpack.Decoder(Message).decode


def encode_message(message: Message) -> bytes:
    """`message` with its length before it."""
    body = _encode(message)
    return _PREFIX.pack(len(body)) + body


def _signed_bytes(
    *, server: NodeId, client: NodeId, server_nonce: bytes, client_nonce: bytes, kind: Kind
) -> bytes:
    # Every part but the last has a fixed length, so no two meanings share bytes.
    keys = bytes.fromhex(server) + bytes.fromhex(client)
    return _DOMAIN + server_nonce + keys + client_nonce + kind.encode()


class _Reader:
    """Collects one message at a time from bytes cut anywhere."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Message | None:
        self._buffer += data
        if len(self._buffer) < 4:
            return None
        (length,) = _PREFIX.unpack_from(self._buffer)
        if not 0 < length <= MESSAGE_BYTES_MAX:
            raise ProtocolFault(f"handshake message of {length} bytes")
        if len(self._buffer) < 4 + length:
            return None
        body = bytes(self._buffer[4 : 4 + length])
        del self._buffer[: 4 + length]
        try:
            return _decode(body)
        except (ValueError, RecursionError) as error:
            raise ProtocolFault(f"malformed handshake: {error}") from error

    @property
    def rest(self) -> bytes:
        return bytes(self._buffer)


class ServerHandshake:
    """The accepting side: `challenge` first, then `feed` until it names the client."""

    def __init__(self, server: NodeId, nonce: bytes) -> None:
        self._server = server
        self._nonce = nonce
        self._reader = _Reader()

    def challenge(self) -> bytes:
        """What to send first."""
        return encode_message(Challenge(VERSION, self._nonce))

    def feed(self, data: bytes) -> tuple[NodeId, Kind] | None:
        """Who the client is and what it wants; None until its hello is here.

        Raises:
            ProtocolFault: The hello is malformed, of another version, or its
                signature is not over this challenge.
        """
        message = self._reader.feed(data)
        if message is None:
            return None
        if not isinstance(message, Hello):
            raise ProtocolFault("expected a hello")
        if self._reader.rest:
            raise ProtocolFault("data before the verdict")
        if message.version != VERSION:
            raise ProtocolFault(
                f"link version {message.version}, this side speaks {VERSION}",
                hint="run the same version of atoll on both sides",
            )
        kind = next((known for known in KINDS if known == message.kind), None)
        if kind is None:
            raise ProtocolFault(f"unknown kind of link {message.kind[:32]!r}")
        if len(message.key) != 32 or len(message.nonce) != NONCE_BYTES:
            raise ProtocolFault("a key or nonce of the wrong length")
        client = NodeId(message.key.hex())
        signed = _signed_bytes(
            server=self._server,
            client=client,
            server_nonce=self._nonce,
            client_nonce=message.nonce,
            kind=kind,
        )
        if not verify(client, message.signature, signed):
            raise ProtocolFault("the signature does not match key and challenge")
        return client, kind


def welcome() -> bytes:
    """The verdict that lets a client in."""
    return encode_message(Verdict(True))


def refusal(reason: LinkFault) -> bytes:
    """The verdict that turns a client away."""
    return encode_message(
        Verdict(False, reason.problem[:_TEXT_CHARS_MAX], reason.hint[:_TEXT_CHARS_MAX])
    )


def _not_welcome(verdict: Verdict) -> NotWelcome:
    problem = peer_text(verdict.problem, _TEXT_CHARS_MAX)
    return NotWelcome(
        problem or "the other side refuses this link",
        hint=peer_text(verdict.hint, _TEXT_CHARS_MAX),
    )


class VerdictReader:
    """The dialing side where keys were proved before: waits for the verdict alone."""

    def __init__(self) -> None:
        self._reader = _Reader()

    @property
    def rest(self) -> bytes:
        """What came after the verdict: the link's first bytes."""
        return self._reader.rest

    def feed(self, data: bytes) -> bool:
        """Whether the verdict is here and lets us in.

        Raises:
            ProtocolFault: The server does not keep to the exchange.
            NotWelcome: It refuses; problem and hint are the server's words.
        """
        message = self._reader.feed(data)
        if message is None:
            return False
        if not isinstance(message, Verdict):
            raise ProtocolFault("expected a verdict")
        if not message.welcome:
            raise _not_welcome(message)
        return True


class ClientHandshake:
    """The dialing side: send what `feed` returns; done when `welcomed`."""

    def __init__(self, server: NodeId, identity: Identity, kind: Kind, nonce: bytes) -> None:
        self._server = server
        self._identity = identity
        self._kind = kind
        self._nonce = nonce
        self._reader = _Reader()
        self._answered = False
        self.welcomed = False

    @property
    def rest(self) -> bytes:
        """What came after the verdict: the link's first bytes."""
        return self._reader.rest

    def feed(self, data: bytes) -> bytes:
        """What to send in answer; empty if nothing.

        Raises:
            ProtocolFault: The server does not keep to the exchange.
            NotWelcome: It refuses; problem and hint are the server's words.
        """
        answer = b""
        message = self._reader.feed(data)
        if message is None:
            return b""
        if not self._answered:
            answer = self._answer(message)
            self._answered = True
            message = self._reader.feed(b"")
            if message is None:
                return answer
        if not isinstance(message, Verdict):
            raise ProtocolFault("expected a verdict")
        if not message.welcome:
            raise _not_welcome(message)
        self.welcomed = True
        return answer

    def _answer(self, message: Message) -> bytes:
        if isinstance(message, Verdict) and not message.welcome:
            raise _not_welcome(message)
        if not isinstance(message, Challenge):
            raise ProtocolFault("expected a challenge")
        if message.version != VERSION or len(message.nonce) != NONCE_BYTES:
            raise ProtocolFault(
                f"link version {message.version}, this side speaks {VERSION}",
                hint="run the same version of atoll on both sides",
            )
        signed = _signed_bytes(
            server=self._server,
            client=self._identity.node_id,
            server_nonce=message.nonce,
            client_nonce=self._nonce,
            kind=self._kind,
        )
        return encode_message(
            Hello(
                version=VERSION,
                kind=self._kind,
                key=bytes.fromhex(self._identity.node_id),
                nonce=self._nonce,
                signature=self._identity.sign(signed),
            )
        )
