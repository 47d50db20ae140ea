"""A relay of one's own, for nodes behind routers that let nothing in.

Members hold one connection each and send each other packets through it; those
stay encrypted from end to end, so the relay sees who talks to whom and how
much, and nothing else. Only keys that are members get in, and prove it by
signing a challenge. It speaks the protocol that QUIC's package speaks to its
relays, over WebSocket (iroh-relay-v2).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Final

from atoll.domain.errors import LinkFault, ProtocolFault
from atoll.domain.ids import NodeId
from atoll.net import websocket
from atoll.net.blake3 import derive_key
from atoll.net.identity import verify

log = logging.getLogger(__name__)

PROTOCOL = "iroh-relay-v2"
PATH = "/relay"
PROBES: Final = {"/ping", "/generate_204"}
"""Paths that clients ask how far away the relay is."""
PACKETS_BYTES_MAX = 64 * 1024
_FRAME_BYTES_MAX = PACKETS_BYTES_MAX + 64
WAITING_BYTES_MAX = 1024 * 1024
"""What may wait for one member; further packets to it are lost, as packets are."""
CLIENTS_MAX = 256
PROVE_S = 10.0
PING_S = 15.0
SILENT_S = 3 * PING_S

# Kinds of frames; in front of each, as its first byte.
CHALLENGE, AUTH, CONFIRM, DENY = 0, 1, 2, 3
TO_RELAY, TO_RELAY_MANY, FROM_RELAY, FROM_RELAY_MANY = 4, 5, 6, 7
GONE, PING, PONG, STATUS = 8, 9, 10, 13
_SAME_KEY_AGAIN = 1
_CONTEXT = b"iroh-relay handshake v1 challenge signature"
_CHALLENGE_BYTES, _KEY_BYTES, _SIGNATURE_BYTES = 16, 32, 64

IsMember = Callable[[NodeId], bool]


@dataclass(eq=False)
class _Member:
    """One connected member."""

    node: NodeId
    writer: asyncio.StreamWriter
    partners: set[NodeId] = field(default_factory=set)
    lost: int = 0

    def send(self, kind: int, content: bytes) -> None:
        """Write a frame, unless too much waits already: it is packets, and they may be lost."""
        transport = self.writer.transport
        if transport.is_closing():
            return
        if transport.get_write_buffer_size() > WAITING_BYTES_MAX:
            self.lost += 1
            return
        transport.write(websocket.message(websocket.BINARY, bytes((kind,)) + content))


class Relay:
    """A port that members meet at; made by `open_relay`."""

    def __init__(self, is_member: IsMember) -> None:
        self._is_member = is_member
        self._members: dict[NodeId, _Member] = {}
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self.port = 0
        self.relayed_bytes = 0

    @property
    def members(self) -> frozenset[NodeId]:
        """Who is connected."""
        return frozenset(self._members)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its first byte to its end; never raises what clients cause."""
        task = asyncio.current_task()
        assert task is not None
        if len(self._open) >= CLIENTS_MAX:
            writer.transport.abort()
            return
        self._open[task] = writer
        try:
            async with asyncio.timeout(PROVE_S):
                member = await self._enter(reader, writer)
            if member is not None:
                await self._serve_member(reader, member)
        except (LinkFault, OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            log.info("relay.ended problem=%s", error or type(error).__name__)
        finally:
            del self._open[task]
            writer.transport.abort()

    async def _enter(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> _Member | None:
        """Whoever proves to be a member; None after a mere probe."""
        request = await websocket.read_request(reader)
        if request.path != PATH:
            known = request.path in PROBES
            writer.write(
                b"HTTP/1.1 %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                % (b"204 No Content" if known else b"404 Not Found")
            )
            await writer.drain()
            writer.close()
            await writer.wait_closed()
            return None
        writer.write(websocket.upgrade(request, PROTOCOL))
        challenge = secrets.token_bytes(_CHALLENGE_BYTES)
        writer.write(websocket.message(websocket.BINARY, bytes((CHALLENGE,)) + challenge))
        kind, content = await self._frame(reader)
        try:
            if kind != AUTH:
                raise ProtocolFault("the client does not prove its key")
            node = proved_key(content, challenge)
            if not self._is_member(node):
                raise LinkFault(f"{node[:12]}… is no member")
        except LinkFault as fault:
            problem = fault.problem.encode()[:100]
            denial = bytes((DENY, len(problem))) + problem
            writer.write(websocket.message(websocket.BINARY, denial))
            await writer.drain()
            raise
        return _Member(node, writer)

    async def _frame(self, reader: asyncio.StreamReader) -> tuple[int, bytes]:
        """The next frame's kind and content; keeps WebSocket's own messages out."""
        while True:
            kind, content = await websocket.read_message(reader, _FRAME_BYTES_MAX)
            if kind == websocket.CLOSE:
                raise ProtocolFault("the client said goodbye")
            if kind == websocket.BINARY and content:
                return content[0], content[1:]

    async def _serve_member(self, reader: asyncio.StreamReader, member: _Member) -> None:
        before = self._members.get(member.node)
        if before is not None:
            before.send(STATUS, bytes((_SAME_KEY_AGAIN,)))
            before.writer.close()
        self._members[member.node] = member
        log.info("relay.member node=%s", member.node)
        member.send(CONFIRM, b"")
        try:
            while True:
                async with asyncio.timeout(SILENT_S):
                    kind, content = await self._frame(reader)
                if kind in (TO_RELAY, TO_RELAY_MANY):
                    self._pass_on(member, kind, content)
                elif kind == PING:
                    member.send(PONG, content[:8])
        finally:
            if self._members.get(member.node) is member:
                del self._members[member.node]
                self._tell_gone(member)

    def _pass_on(self, sender: _Member, kind: int, content: bytes) -> None:
        """Hand packets to whom they are for, with the sender's key in place of the receiver's."""
        if len(content) <= _KEY_BYTES:
            raise ProtocolFault("packets without a receiver")
        target = self._members.get(NodeId(content[:_KEY_BYTES].hex()))
        if target is None:
            return
        self.relayed_bytes += len(content) - _KEY_BYTES
        target.partners.add(sender.node)
        sender.partners.add(target.node)
        target.send(
            FROM_RELAY if kind == TO_RELAY else FROM_RELAY_MANY,
            bytes.fromhex(sender.node) + content[_KEY_BYTES:],
        )

    def _tell_gone(self, member: _Member) -> None:
        for node in member.partners:
            partner = self._members.get(node)
            if partner is not None:
                partner.send(GONE, bytes.fromhex(member.node))
                partner.partners.discard(member.node)

    async def ping_on(self) -> None:
        """Ask all members for a sign of life, again and again."""
        count = 0
        while True:
            await asyncio.sleep(PING_S)
            count += 1
            for member in list(self._members.values()):
                member.send(PING, struct.pack(">Q", count))

    async def shut(self) -> None:
        """End all connections."""
        for writer in self._open.values():
            writer.transport.abort()
        if self._open:
            await asyncio.wait(set(self._open))


def proved_key(content: bytes, challenge: bytes) -> NodeId:
    """Whose key signed `challenge`; `content` is a client's proof: key, length, signature.

    Raises:
        ProtocolFault: It has another form, or the signature does not match.
    """
    if len(content) != _KEY_BYTES + 1 + _SIGNATURE_BYTES or content[_KEY_BYTES] != _SIGNATURE_BYTES:
        raise ProtocolFault("a proof of another form")
    node = NodeId(content[:_KEY_BYTES].hex())
    if not verify(node, content[_KEY_BYTES + 1 :], derive_key(_CONTEXT, challenge)):
        raise ProtocolFault("the signature does not match key and challenge")
    return node


@contextlib.asynccontextmanager
async def open_relay(
    host: str, port: int, *, is_member: IsMember, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Relay]:
    """A relay at `host`:`port` (0: any free port) while the context lasts.

    With `tls`, whose certificate the members' systems must trust, its address
    begins with https, otherwise with http: packets are encrypted either way.

    Raises:
        LinkFault: The address cannot be listened at.
    """
    relay = Relay(is_member)
    try:
        server = await asyncio.start_server(
            relay.serve, host, port, ssl=tls, limit=websocket.HEAD_BYTES_MAX
        )
    except OSError as error:
        raise LinkFault(
            f"cannot open a relay at {host}:{port}: {error.strerror or error}",
            hint="choose another port",
        ) from error
    relay.port = int(server.sockets[0].getsockname()[1])
    pinging = asyncio.get_running_loop().create_task(relay.ping_on(), name="relay ping")
    try:
        yield relay
    finally:
        pinging.cancel()
        server.close()
        await relay.shut()
