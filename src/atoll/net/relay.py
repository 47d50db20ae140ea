"""A relay of one's own, for nodes behind routers that let nothing in.

Members hold one connection each and send each other packets through it; those
stay encrypted from end to end, so the relay sees who talks to whom and how
much, and nothing else. Only keys that are members get in, and prove it by
signing a challenge. Who holds an open invitation comes in as a guest: he may
talk with the one who invited, until that one has made him a member. It speaks
the protocol that QUIC's package speaks to its relays, over WebSocket
(iroh-relay-v2).
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

from atoll.domain.errors import AtollError, LinkFault, ProtocolFault
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
STRANGERS_MAX = 64
"""Of these, connections that have not proved a key yet."""
GUESTS_MAX = 32
GUEST_BYTES_MAX = 1024 * 1024
"""What a guest may send in all: enough to introduce himself, not to serve."""
REVIEW_S = 1.0
"""How often it is looked whether those who are in may still be."""
_LOOK_AGAIN_S = 0.1
"""How soon after one look a guest's packets may cause another."""
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


@dataclass(frozen=True, slots=True)
class Guests:
    """Who comes in without being a member.

    `host` is the one member with whom guests may talk. `places` tells for how
    many of them a token is good; 0 for one that is not good (any more).
    """

    host: NodeId
    places: Callable[[str], int]


@dataclass(eq=False)
class _Member:
    """One who is in, as a member or, until he is one, as a guest."""

    node: NodeId
    writer: asyncio.StreamWriter
    token: str = ""
    is_guest: bool = False
    partners: set[NodeId] = field(default_factory=set)
    lost: int = 0
    guest_bytes: int = 0
    looked_s: float = 0.0

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

    def __init__(self, is_member: IsMember, guests: Guests | None = None) -> None:
        self._is_member = is_member
        self._guests = guests
        self._members: dict[NodeId, _Member] = {}
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self.port = 0
        self.relayed_bytes = 0

    @property
    def members(self) -> frozenset[NodeId]:
        """Who is connected, guests among them."""
        return frozenset(self._members)

    @property
    def guests(self) -> frozenset[NodeId]:
        """Who is connected as a guest."""
        return frozenset(m.node for m in self._members.values() if m.is_guest)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its first byte to its end; never raises what clients cause."""
        task = asyncio.current_task()
        assert task is not None
        strangers = len(self._open) - len(self._members)
        if len(self._open) >= CLIENTS_MAX or strangers >= STRANGERS_MAX:
            writer.transport.abort()
            return
        self._open[task] = writer
        try:
            async with asyncio.timeout(PROVE_S):
                member = await self._enter(reader, writer)
            if member is not None:
                await self._serve_member(reader, member)
        except (AtollError, OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            log.info("relay.ended problem=%s", error or type(error).__name__)
        finally:
            del self._open[task]
            writer.transport.abort()

    async def _enter(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> _Member | None:
        """Whoever proves to be a member or a guest; None after a mere probe."""
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
            member = _Member(proved_key(content, challenge), writer, bearer(request))
            self._let_in(member)
        except LinkFault as fault:
            problem = fault.problem.encode()[:100]
            denial = bytes((DENY, len(problem))) + problem
            writer.write(websocket.message(websocket.BINARY, denial))
            await writer.drain()
            raise
        return member

    def _let_in(self, member: _Member) -> None:
        """Find out as what somebody is in.

        Raises:
            LinkFault: He is neither a member nor a guest; or there are too many guests.
            AtollError: It cannot be told now.
        """
        if self._is_member(member.node):
            return
        places = self._guests.places(member.token) if self._guests and member.token else 0
        if not places:
            shown = ", and its ticket is not good (any more)" if member.token else ""
            raise LinkFault(f"{member.node[:12]}… is no member{shown}")
        others = [m for m in self._members.values() if m.is_guest and m.node != member.node]
        if len(others) >= GUESTS_MAX:
            raise LinkFault("too many guests are here", hint="try again shortly")
        same = [m for m in others if m.token == member.token]
        for other in same[: len(same) - places + 1] if len(same) >= places else ():
            # Most often the same machine, whose connection broke unseen.
            log.info("relay.guest_gives_way node=%s", other.node)
            other.writer.transport.abort()
        member.is_guest = True

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
        log.info("relay.%s node=%s", "guest" if member.is_guest else "member", member.node)
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
        self._count(sender, len(content))
        if target is None or not self._may_talk(sender, target):
            return
        self.relayed_bytes += len(content) - _KEY_BYTES
        target.partners.add(sender.node)
        sender.partners.add(target.node)
        target.send(
            FROM_RELAY if kind == TO_RELAY else FROM_RELAY_MANY,
            bytes.fromhex(sender.node) + content[_KEY_BYTES:],
        )

    def _count(self, sender: _Member, size: int) -> None:
        """Add to what a guest has sent.

        Raises:
            LinkFault: It is more than a guest may send.
        """
        if sender.is_guest:
            sender.guest_bytes += size
            if sender.guest_bytes > GUEST_BYTES_MAX and not self._is_now_member(sender):
                raise LinkFault(f"a guest sent more than {GUEST_BYTES_MAX} bytes")

    def _may_talk(self, one: _Member, other: _Member) -> bool:
        """Whether packets may pass between two who are in."""
        for guest, partner in ((one, other), (other, one)):
            is_host = self._guests is not None and partner.node == self._guests.host
            if guest.is_guest and not is_host and not self._is_now_member(guest):
                return False
        return True

    def _is_now_member(self, guest: _Member) -> bool:
        """Whether the host has made a guest a member in the meantime."""
        now_s = asyncio.get_running_loop().time()
        if now_s - guest.looked_s >= _LOOK_AGAIN_S:
            guest.looked_s = now_s
            try:
                guest.is_guest = not self._is_member(guest.node)
            except AtollError as error:
                log.warning("relay.cannot_look problem=%s", error)
        return not guest.is_guest

    def review(self) -> None:
        """Show out who may be here no more: revoked, or with an invitation that ended."""
        for member in list(self._members.values()):
            try:
                if self._is_member(member.node):
                    member.is_guest = False
                    continue
                good = self._guests is not None and self._guests.places(member.token)
            except AtollError as error:
                # Whether anybody has to go cannot be told; nobody comes in meanwhile.
                log.warning("relay.cannot_look problem=%s", error)
                return
            if not (member.is_guest and good):
                log.info("relay.shown_out node=%s", member.node)
                member.writer.transport.abort()

    async def review_on(self) -> None:
        """Review again and again."""
        while True:
            await asyncio.sleep(REVIEW_S)
            self.review()

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


def bearer(request: websocket.Request) -> str:
    """The token that a request shows; empty if none.

    Source: RFC 6750, section 2.1; `auth_token` of the package's `RelayConfig`.
    """
    scheme, _, token = request.fields.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


@contextlib.asynccontextmanager
async def open_relay(
    host: str,
    port: int,
    *,
    is_member: IsMember,
    guests: Guests | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Relay]:
    """A relay at `host`:`port` (0: any free port) while the context lasts.

    With `tls`, whose certificate the members' systems must trust, its address
    begins with https, otherwise with http: packets are encrypted either way.
    Without `guests` nobody comes in who is no member.

    Raises:
        LinkFault: The address cannot be listened at.
    """
    relay = Relay(is_member, guests)
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
    loop = asyncio.get_running_loop()
    chores = (
        loop.create_task(relay.ping_on(), name="relay ping"),
        loop.create_task(relay.review_on(), name="relay review"),
    )
    try:
        yield relay
    finally:
        for chore in chores:
            chore.cancel()
        server.close()
        await relay.shut()
