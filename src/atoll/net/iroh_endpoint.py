"""Links over QUIC: one UDP port under the node's own key, for dialing and accepting.

Both sides prove their keys in the handshake of QUIC itself, so the key that
`authorise` is asked about is proven already, and one message remains: the
verdict, which the accepting side writes as the first thing on the link's
stream. No service of the package's makers is ever used: addresses come from
the caller, relays are his own.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING, cast

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from atoll.domain.address import Address, HostPort
from atoll.domain.errors import LinkFault
from atoll.domain.ids import NodeId
from atoll.net import iroh_patch
from atoll.net.handshake import MESSAGE_BYTES_MAX, VerdictReader, refusal, welcome
from atoll.net.identity import Identity
from atoll.net.iroh_stream import IrohStream
from atoll.net.iroh_terms import (
    ALPNS,
    KINDS,
    PUNCH_ALPN,
    PUNCH_S,
    bind_options,
    dial_fault,
    host_of,
    host_port,
    peer_of,
    relay_mode,
    said,
)
from atoll.net.link import (
    BULK,
    CONTROL,
    DATA,
    MEMORY,
    SAME_VERSION,
    TIMING,
    BulkLink,
    ControlLink,
    DataLink,
    Kind,
    LinkSettings,
    MemoryLink,
    TimingLink,
    WrongPeer,
)
from atoll.net.link_kinds import LINK_TYPES
from atoll.net.listener import UNPROVEN_MAX, UNPROVEN_PER_HOST_MAX, Takers
from atoll.net.stream_link import StreamLink
from atoll.net.tasks import background_tasks

if TYPE_CHECKING:
    import iroh

log = logging.getLogger(__name__)

LINKS_PER_PEER_MAX = 16
"""Standing links that one key may have; it needs three, and more while it redials."""
UNVALIDATED_MAX = UNPROVEN_MAX // 4
"""Connections in their handshake from which on strangers must show that they are where they say."""
_CLOSED_BY_US = 1
_ACCEPT_RETRY_S = 0.1


class IrohEndpoint:
    """A UDP port that dials and takes links; made by `open_endpoint`."""

    def __init__(
        self, identity: Identity, endpoint: iroh.Endpoint, tasks: asyncio.TaskGroup
    ) -> None:
        self._iroh = iroh_patch.load()
        self._fault: type[Exception] = self._iroh.IrohError
        self._identity = identity
        self._endpoint = endpoint
        self._tasks = tasks
        self._takers: Takers | None = None
        self._taken_with = LinkSettings()
        self._by_host: Counter[str] = Counter()
        self._by_peer: Counter[NodeId] = Counter()
        self._streams: dict[IrohStream, asyncio.Task[None]] = {}

    @property
    def port(self) -> int:
        """The UDP port, also where 0 was asked for."""
        return int(self._endpoint.bound_sockets()[0].rpartition(":")[2])

    @property
    def addresses(self) -> tuple[HostPort, ...]:
        """Where it can be reached, as far as this machine knows; loopback if nowhere else."""
        places = [host_port(text) for text in self._endpoint.addr().direct_addresses()]
        outside = [p for p in places if not ipaddress.ip_address(p.host).is_loopback]
        return tuple(outside or places)

    @property
    def unproven(self) -> int:
        """How many connections are in their handshake."""
        return self._by_host.total()

    async def add_outside_address(self, place: HostPort) -> None:
        """Others see this endpoint at `place`: use it to get through address translation."""
        await self._endpoint.add_external_addr(str(place))

    async def wait_relayed(self) -> None:
        """Wait until one of the endpoint's relays has let it in: others can meet it there.

        Takes some 3 s, and forever if no relay does: bound it.
        """
        await self._endpoint.online()

    async def dial_control(
        self, address: Address, *, expected: NodeId, settings: LinkSettings | None = None
    ) -> ControlLink:
        """A control link to the holder of key `expected`; `start` it next.

        Raises:
            WrongPeer: Another key answered; nothing was sent to it.
            NotWelcome: It refuses us, in its own words.
            LinkFault: Nobody answers there, or not in time, or not in our language.
        """
        link = await self._dial(address, expected, CONTROL, settings or LinkSettings())
        return cast(ControlLink, link)

    async def dial_data(
        self, address: Address, *, expected: NodeId, settings: LinkSettings | None = None
    ) -> DataLink:
        """A data link to the holder of key `expected`; otherwise as `dial_control`."""
        link = await self._dial(address, expected, DATA, settings or LinkSettings())
        return cast(DataLink, link)

    async def dial_bulk(
        self, address: Address, *, expected: NodeId, settings: LinkSettings | None = None
    ) -> BulkLink:
        """A bulk link to the holder of key `expected`; otherwise as `dial_control`."""
        link = await self._dial(address, expected, BULK, settings or LinkSettings())
        return cast(BulkLink, link)

    async def dial_timing(
        self, address: Address, *, expected: NodeId, settings: LinkSettings | None = None
    ) -> TimingLink:
        """A timing link to the holder of key `expected`; otherwise as `dial_control`."""
        link = await self._dial(address, expected, TIMING, settings or LinkSettings())
        return cast(TimingLink, link)

    async def dial_memory(
        self, address: Address, *, expected: NodeId, settings: LinkSettings | None = None
    ) -> MemoryLink:
        """A memory link to the holder of key `expected`; otherwise as `dial_control`."""
        link = await self._dial(address, expected, MEMORY, settings or LinkSettings())
        return cast(MemoryLink, link)

    async def punch(self, address: Address, *, expected: NodeId) -> None:
        """Send to the holder of `expected`, who dials us, so that our router lets that in."""
        with contextlib.suppress(TimeoutError, LinkFault, self._fault):
            async with asyncio.timeout(PUNCH_S):
                target = self._target(Address(quic=address.quic), expected)
                (await self._endpoint.connect(target, PUNCH_ALPN)).close(_CLOSED_BY_US, b"")

    @contextlib.contextmanager
    def taking(
        self,
        takers: Takers,
        *,
        settings: LinkSettings | None = None,
    ) -> Iterator[None]:
        """Take links while the context lasts, otherwise as `listener.listen`."""
        if self._takers is not None:
            raise RuntimeError("links are taken already")
        self._takers, self._taken_with = takers, settings or LinkSettings()
        self._endpoint.set_alpns(list(ALPNS.values()))
        try:
            yield
        finally:
            self._takers = None
            self._endpoint.set_alpns([])

    # Dialing.

    async def _dial(
        self, address: Address, expected: NodeId, kind: Kind, settings: LinkSettings
    ) -> StreamLink:
        where = ", ".join(map(str, address.quic)) or address.relay or "an unknown address"
        connection: iroh.Connection | None = None
        try:
            async with asyncio.timeout(settings.handshake_s):
                connection = await self._endpoint.connect(
                    self._target(address, expected), ALPNS[kind]
                )
                return await self._answered(connection, expected, kind, settings)
        except BaseException as error:
            if connection is not None:
                connection.close(_CLOSED_BY_US, b"")
            if isinstance(error, TimeoutError):
                raise LinkFault(
                    f"{where} did not answer within {settings.handshake_s:g} s",
                    hint="check the address and that a firewall lets it through",
                ) from None
            if isinstance(error, self._fault):
                raise dial_fault(said(error), where, expected) from error
            raise

    def _target(self, address: Address, expected: NodeId) -> iroh.EndpointAddr:
        try:
            key = self._iroh.EndpointId.from_bytes(bytes.fromhex(expected))
        except (ValueError, self._fault) as error:
            raise LinkFault(f"{expected[:12]}… is nobody's key") from error
        target: iroh.EndpointAddr = self._iroh.EndpointAddr(
            key, address.relay or None, [str(place) for place in address.quic]
        )
        return target

    async def _answered(
        self, connection: iroh.Connection, expected: NodeId, kind: Kind, settings: LinkSettings
    ) -> StreamLink:
        shown = peer_of(connection)
        if shown != expected:
            raise WrongPeer(f"the other side holds key {shown[:12]}…, expected {expected[:12]}…")
        connection.set_max_concurrent_uni_streams(0)
        pair = await connection.accept_bi()
        verdict, recv = VerdictReader(), pair.recv()
        while not verdict.feed(await self._some(recv)):
            pass
        stream = IrohStream(connection, pair, warms=kind == DATA, warmed=False)
        link, _ = self._stands(stream, kind, expected, settings, verdict.rest)
        return link

    async def _some(self, recv: iroh.RecvStream) -> bytes:
        data: bytes = await recv.read(MESSAGE_BYTES_MAX)
        if not data:
            raise LinkFault("the connection ended during the handshake", hint=SAME_VERSION)
        return data

    # Accepting.

    async def _accept_on(self) -> None:
        """Decide about all that arrives, until the endpoint is closed."""
        while True:
            try:
                incoming = await self._endpoint.accept_next()
                if incoming is None:
                    return
                await self._consider(incoming)
            except self._fault as error:
                log.warning("iroh.accept_failed problem=%s", said(error))
                await asyncio.sleep(_ACCEPT_RETRY_S)

    async def _consider(self, incoming: iroh.Incoming) -> None:
        """Begin its handshake, or refuse it, as strangers are bounded."""
        takers, unproven = self._takers, self.unproven
        host = host_of(await incoming.remote_addr())
        if takers is None or unproven >= UNPROVEN_MAX:
            await incoming.refuse()
        elif unproven >= UNVALIDATED_MAX and not await incoming.remote_addr_validated():
            # Sender addresses of UDP are easily forged: count only real ones.
            await incoming.retry()
        elif self._by_host[host] >= UNPROVEN_PER_HOST_MAX:
            log.warning("iroh.too_many_unproven host=%s", host)
            await incoming.refuse()
        else:
            self._by_host[host] += 1
            self._tasks.create_task(self._admit(incoming, host, takers), name=f"iroh admit {host}")

    async def _admit(self, incoming: iroh.Incoming, host: str, takers: Takers) -> None:
        connection: iroh.Connection | None = None
        try:
            async with asyncio.timeout(self._taken_with.handshake_s):
                connection = await (await incoming.accept()).connect()
                link = await self._greet(connection, takers)
        except (LinkFault, TimeoutError, self._fault) as error:
            problem = "too slow" if isinstance(error, TimeoutError) else said(error)
            log.warning("iroh.handshake_failed host=%s problem=%s", host, problem)
            if connection is not None:
                connection.close(_CLOSED_BY_US, b"")
        else:
            takers.take(link)
        finally:
            self._by_host[host] -= 1
            if not self._by_host[host]:
                del self._by_host[host]

    async def _greet(self, connection: iroh.Connection, takers: Takers) -> StreamLink:
        """Say the verdict; the link, if it is a welcome."""
        peer, kind = peer_of(connection), KINDS[connection.alpn()]
        connection.set_max_concurrent_bi_streams(0)
        connection.set_max_concurrent_uni_streams(1 if kind == DATA else 0)
        pair = await connection.open_bi()
        try:
            takers.authorise(peer, kind)
            if self._by_peer[peer] >= LINKS_PER_PEER_MAX:
                raise LinkFault(
                    f"over {LINKS_PER_PEER_MAX} links of one key", hint="close some of them"
                )
        except LinkFault as fault:
            send = pair.send()
            await send.write_all(refusal(fault))
            await send.finish()
            await send.stopped()
            raise
        self._by_peer[peer] += 1
        try:
            await pair.send().write_all(welcome())
        except BaseException:
            self._forget(peer)
            raise
        stream = IrohStream(connection, pair, warms=False, warmed=kind == DATA)
        link, task = self._stands(stream, kind, peer, self._taken_with, b"")
        task.add_done_callback(lambda _task: self._forget(peer))
        return link

    def _forget(self, peer: NodeId) -> None:
        self._by_peer[peer] -= 1
        if not self._by_peer[peer]:
            del self._by_peer[peer]

    # Both.

    def _stands(
        self, stream: IrohStream, kind: Kind, peer: NodeId, settings: LinkSettings, early: bytes
    ) -> tuple[StreamLink, asyncio.Task[None]]:
        """The link on `stream`, and the task that carries it until it is gone."""
        link = LINK_TYPES[kind](stream, peer, settings, early)
        task = self._tasks.create_task(stream.run(), name=f"iroh link {peer[:8]}")
        self._streams[stream] = task
        task.add_done_callback(lambda _task: self._streams.pop(stream))
        return link, task

    async def _shut(self, settings: LinkSettings) -> None:
        """End all links, their last words first, then the port."""
        for stream in list(self._streams):
            stream.close()
        if self._streams:
            await asyncio.wait(self._streams.values(), timeout=settings.close_s)
        for stream in list(self._streams):
            stream.abort()
        await self._endpoint.close()


@contextlib.asynccontextmanager
async def open_endpoint(
    identity: Identity,
    *,
    host: str = "0.0.0.0",  # noqa: S104 - peers anywhere are to reach it
    port: int = 0,
    relays: Sequence[str] = (),
    relay_token: str = "",
    settings: LinkSettings | None = None,
) -> AsyncIterator[IrohEndpoint]:
    """An endpoint at UDP `host`:`port` (0: any free port) while the context lasts.

    `relays` are addresses of relays of one's own, none by default, and
    `relay_token` what a guest shows them. Leaving the context ends all links of
    the endpoint, what they still had to write first.

    Raises:
        LinkFault: QUIC cannot be had here, or the address not be bound.
    """
    iroh = iroh_patch.load()
    options = bind_options(host, port)
    try:
        builder = iroh.EndpointBuilder()
        builder.apply_minimal()
        builder.relay_mode(relay_mode(iroh, relays, relay_token))
        builder.secret_key(
            identity.private_key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        )
        for option in options:
            builder.bind_addr(option)
        raw = await builder.bind()
    except iroh.IrohError as error:
        raise LinkFault(
            f"cannot open UDP {HostPort(host, port)}: {said(error)}", hint="choose another port"
        ) from error
    async with background_tasks() as tasks:
        endpoint = IrohEndpoint(identity, raw, tasks)
        tasks.create_task(endpoint._accept_on(), name="iroh accept")
        try:
            yield endpoint
        finally:
            await endpoint._shut(settings or LinkSettings())
