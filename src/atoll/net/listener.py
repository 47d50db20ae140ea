"""Accepting links over TLS 1.3: one open port for all kinds of link.

A connection is nobody's until its key is proven and welcome; until then it is
bounded in time, bytes and number, in all and from one address.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import secrets
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

from atoll.domain.errors import LinkFault, ProtocolFault
from atoll.domain.ids import NodeId
from atoll.net.handshake import NONCE_BYTES, ServerHandshake, refusal, welcome
from atoll.net.identity import Identity
from atoll.net.link import (
    BULK,
    MEMORY,
    BulkLink,
    ControlLink,
    DataLink,
    Kind,
    LinkSettings,
    MemoryLink,
    TimingLink,
)
from atoll.net.link_kinds import LINK_TYPES
from atoll.net.stream_link import StreamLink
from atoll.net.tasks import background_tasks
from atoll.net.tls import Gate, server_context, set_bulk, set_socket

log = logging.getLogger(__name__)

UNPROVEN_MAX = 64
"""Connections that may be in their handshake at once; more wait in the kernel."""
UNPROVEN_PER_HOST_MAX = 24
"""Of these, how many from one address, so that one host cannot take all places."""
_BACKLOG = 128
_ACCEPT_RETRY_S = 0.1

Authorise = Callable[[NodeId, Kind], None]
"""Decides whether a proven key may have a link of this kind; raises `LinkFault` if not."""


class Takers:
    """Who takes the links that arrive, and who may have one.

    A kind of link without a taker is refused; `authorise` decides about the
    others. A taker starts its link now or within `handshake_s`.
    """

    def __init__(
        self,
        authorise: Authorise,
        *,
        on_control: Callable[[ControlLink], None] | None = None,
        on_data: Callable[[DataLink], None] | None = None,
        on_bulk: Callable[[BulkLink], None] | None = None,
        on_timing: Callable[[TimingLink], None] | None = None,
        on_memory: Callable[[MemoryLink], None] | None = None,
    ) -> None:
        self._allowed = authorise
        self._by_kind: dict[Kind, Callable[[Any], None] | None] = {
            "control": on_control,
            "data": on_data,
            "bulk": on_bulk,
            "timing": on_timing,
            "memory": on_memory,
        }

    def authorise(self, peer: NodeId, kind: Kind) -> None:
        """Raise `LinkFault` unless a proven key may have a link of this kind."""
        if self._by_kind[kind] is None:
            raise ProtocolFault(f"no {kind} links are taken here", hint="check the port")
        self._allowed(peer, kind)

    def take(self, link: StreamLink) -> None:
        """Hand on a link that was authorised."""
        log.info(
            "link.stands carrier=%s peer=%s kind=%s host=%s",
            *(link.carrier, link.peer, link.kind, link.peer_host),
        )
        take = self._by_kind[link.kind]
        if take is not None:
            take(link)


class _ServerGate(Gate):
    def __init__(self, server: NodeId, authorise: Authorise, settings: LinkSettings) -> None:
        super().__init__(settings)
        self._authorise = authorise
        self._handshake = ServerHandshake(server, secrets.token_bytes(NONCE_BYTES))

    def _opened(self) -> None:
        set_socket(self._transport)
        self._transport.write(self._handshake.challenge())

    def _received(self, data: bytes) -> None:
        try:
            claim = self._handshake.feed(data)
            if claim is None:
                return
            self._authorise(*claim)
        except LinkFault as fault:
            self._transport.write(refusal(fault))
            raise
        peer, kind = claim
        if kind in (BULK, MEMORY):
            set_bulk(self._transport)
        self._transport.write(welcome())
        self._finish(LINK_TYPES[kind], peer, b"")


class Listener:
    """An open port that turns connections into links; made by `listen`."""

    def __init__(
        self,
        sock: socket.socket,
        *,
        identity: Identity,
        takers: Takers,
        settings: LinkSettings,
    ) -> None:
        self._sock = sock
        self._identity = identity
        self._takers = takers
        self._settings = settings
        self._context = server_context(identity)
        self._places = asyncio.Semaphore(UNPROVEN_MAX)
        self._by_host: Counter[str] = Counter()

    @property
    def host(self) -> str:
        """The address it listens at."""
        return str(self._sock.getsockname()[0])

    @property
    def port(self) -> int:
        """The port it listens at, also where 0 was asked for."""
        return int(self._sock.getsockname()[1])

    @property
    def unproven(self) -> int:
        """How many connections are in their handshake."""
        return self._by_host.total()

    async def _serve(self) -> None:
        """Accept until cancelled; each connection proves itself in a task of its own."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._places.acquire()
                try:
                    sock, address = await loop.sock_accept(self._sock)
                except OSError as error:
                    # Out of descriptors, or the client left before we took it.
                    self._places.release()
                    log.warning("listener.accept_failed problem=%s", error)
                    await asyncio.sleep(_ACCEPT_RETRY_S)
                    continue
                host = str(address[0])
                if self._by_host[host] >= UNPROVEN_PER_HOST_MAX:
                    log.warning("listener.too_many_unproven host=%s", host)
                    sock.close()
                    self._places.release()
                    continue
                self._by_host[host] += 1
                tasks.create_task(self._admit(sock, host), name=f"admit {host}")

    async def _admit(self, sock: socket.socket, host: str) -> None:
        settings = self._settings
        gate = _ServerGate(self._identity.node_id, self._takers.authorise, settings)
        try:
            async with asyncio.timeout(settings.handshake_s):
                await asyncio.get_running_loop().connect_accepted_socket(
                    lambda: gate,
                    sock,
                    ssl=self._context,
                    ssl_handshake_timeout=settings.handshake_s,
                    ssl_shutdown_timeout=settings.close_s,
                )
                link = await gate.done
        except TimeoutError:
            log.warning("listener.handshake_slow host=%s", host)
            gate.abort()
        except (LinkFault, OSError) as error:
            log.warning("listener.handshake_failed host=%s problem=%s", host, error)
        except asyncio.CancelledError:
            gate.abort()
            raise
        else:
            self._takers.take(link)
        finally:
            self._places.release()
            self._by_host[host] -= 1
            if not self._by_host[host]:
                del self._by_host[host]


@contextlib.asynccontextmanager
async def listen(
    host: str,
    port: int,
    *,
    identity: Identity,
    takers: Takers,
    settings: LinkSettings | None = None,
) -> AsyncIterator[Listener]:
    """Take links at `host`:`port` (0: any free port) while the context lasts.

    Leaving the context stops the listening; links that stand are their takers'.

    Raises:
        LinkFault: The address cannot be listened at.
    """
    sock = await _bound_socket(host, port)
    try:
        listener = Listener(
            sock,
            identity=identity,
            takers=takers,
            settings=settings or LinkSettings(),
        )
        async with background_tasks() as tasks:
            serving = tasks.create_task(listener._serve(), name=f"listen {host}:{listener.port}")
            try:
                yield listener
            finally:
                serving.cancel()
    finally:
        sock.close()


async def _bound_socket(host: str, port: int) -> socket.socket:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, address = found[0]
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setblocking(False)
            sock.bind(address)
            sock.listen(_BACKLOG)
        except BaseException:
            sock.close()
            raise
    except (OSError, UnicodeError) as error:
        taken = getattr(error, "errno", None) == errno.EADDRINUSE
        reason = getattr(error, "strerror", None) or error
        raise LinkFault(
            f"cannot listen at {host}:{port}: {reason}",
            hint="choose another port" if taken else "check the address",
        ) from error
    return sock
