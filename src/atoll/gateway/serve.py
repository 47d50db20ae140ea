"""The gateway put together: model, ends, fleet, ring, text and the web server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from atoll.api.app import create_app
from atoll.api.backend import StatusSource
from atoll.api.keeper import FOLDER, open_keeper
from atoll.api.keys import KEYS_FILE, KeyStore
from atoll.api.limits import Limits
from atoll.api.server import check_bind, open_server, open_socket
from atoll.domain.address import HostPort
from atoll.domain.ids import NodeId
from atoll.engine.place import check_engine
from atoll.engine.text_client import TextProcess
from atoll.gateway.casting import Caster
from atoll.gateway.conductor import Conductor
from atoll.gateway.ground import Ground
from atoll.gateway.lan import Lan
from atoll.gateway.lending import Lending
from atoll.gateway.link_port import LinkPorts, choose_ports, remember_ports
from atoll.gateway.options import RingOptions, ServeOptions
from atoll.gateway.prepare import Prepared, draft_options, ends_options, memory_needed, prepare
from atoll.gateway.shard_book import ShardBook
from atoll.gateway.status import GatewayStatus, gateway_status
from atoll.members.fleet import Fleet
from atoll.members.join_files import JoinFiles, MakeTicket
from atoll.members.measuring import Measuring
from atoll.members.register import REGISTER_FILE, Invitation, Register
from atoll.net.address import is_loopback, own_addresses
from atoll.net.identity import Identity, next_incarnation
from atoll.net.listener import Takers
from atoll.net.ticket import Ticket
from atoll.net.transport import Transport, open_transport
from atoll.node.options import host_id
from atoll.store.layout import FoundModel, Store
from atoll.transfer.lender import Lender, open_lender

log = logging.getLogger(__name__)

IDENTITY_FILE = "gateway.pem"
INCARNATION_FILE = "incarnation"

Background = Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway.

    `url` is the API's base without `/v1`; `key`, `addresses` and `udp_port` (0:
    none) are what nodes know it by; `join_files` hold a ticket for each place of
    the ring.
    """

    url: str
    key: NodeId
    udp_port: int
    addresses: tuple[HostPort, ...]
    join_files: tuple[Path, ...]
    conductor: Conductor
    status: Callable[[], GatewayStatus]


@asynccontextmanager
async def open_gateway(
    model: FoundModel,
    store: Store,
    home: Path,
    options: ServeOptions,
    *,
    tell: Callable[[str], None],
) -> AsyncIterator[Gateway]:
    """Serve `model` inside the block; nodes may join from its beginning.

    Args:
        model: What to serve.
        store: Where models and shards lie.
        home: Where the gateway's key, its incarnation and the API keys lie.
        options: The operator's choices.
        tell: Takes one line at a time for the operator to read.

    Raises:
        AtollError: The model cannot be cut, or an address or process cannot be had.
    """
    ring = options.ring
    keys, limits = _keys(home, options), Limits(deadline_s=options.deadline_s)
    await check_engine(ring.gpu)
    prepared = await asyncio.to_thread(prepare, model, store, ring)
    identity = Identity.load_or_create(home / IDENTITY_FILE)
    register = Register(home / REGISTER_FILE)
    lan = Lan(options, identity.node_id, register, home, tell=tell)
    fleet = Fleet(
        ring.nodes,
        register,
        Measuring(prepared.order),
        memory_bytes=memory_needed(prepared.manifest, ring),
        room=lan.room,
        tell=tell,
    )
    book = ShardBook(model.path, model.model, prepared.manifest.shards)
    conductor = _conductor(model, prepared, book=book, fleet=fleet, home=home, ring=ring, tell=tell)
    status = partial(gateway_status, conductor, fleet, prepared.manifest, ring)
    source = StatusSource(GatewayStatus, status)
    ports = choose_ports(home, options.link_host, options.link_port)
    text = await TextProcess.start(model.path)
    try:
        with _lone_error():
            async with (
                open_keeper(home / FOLDER, model.model, options.streams, tell=tell) as keeper,
                open_lender(Lending(model, store, book, prepared.order).open) as lender,
                _open_links(identity, options, ports.udp) as transport,
                transport.listen(
                    options.link_host, ports.tcp, _takers(conductor, fleet, lender)
                ) as listener,
                open_server(
                    create_app(
                        conductor, text, keys=keys, limits=limits, status=source, keeper=keeper
                    ),
                    open_socket(options.host, options.port),
                    tls=options.tls,
                ) as url,
                _attended(conductor, fleet, partial(lan.run, transport, listener.port)),
            ):
                remember_ports(home, LinkPorts(listener.port, transport.udp_port))
                addresses = options.advertise or own_addresses(options.link_host, listener.port)
                tickets = _ticket_maker(transport, addresses)
                conductor.open(transport, listener.port)
                fleet.memory.own.open(transport)
                files = fleet.open(JoinFiles(options.join_dir, register, tickets))
                reach = (identity.node_id, transport.udp_port, addresses, tuple(files))
                yield Gateway(url, *reach, conductor, status)
    finally:
        await text.close()
        prepared.release()


def _keys(home: Path, options: ServeOptions) -> KeyStore | None:
    """Who may ask; None: anybody of this machine.

    Raises:
        AtollError: Others can reach the API, and something is missing.
    """
    keys = KeyStore(home / KEYS_FILE) if options.auth else None
    check_bind(options.host, options.tls, keys)
    return keys


def _conductor(
    model: FoundModel,
    prepared: Prepared,
    *,
    book: ShardBook,
    fleet: Fleet,
    home: Path,
    ring: RingOptions,
    tell: Callable[[str], None],
) -> Conductor:
    identity = Identity.load_or_create(home / IDENTITY_FILE)
    return Conductor(
        model.name,
        Ground(prepared.manifest, fleet, identity, ring, tell, draft_options(ring)),
        caster=Caster(
            *(prepared.manifest, prepared.boundaries, ring, book), host=host_id(), tell=tell
        ),
        ends=ends_options(model, prepared, ring),
        incarnation=next_incarnation(home / INCARNATION_FILE),
    )


def _takers(conductor: Conductor, fleet: Fleet, lender: Lender) -> Takers:
    return Takers(
        conductor.authorise,
        on_control=fleet.on_control,
        on_data=conductor.on_data,
        on_bulk=lender.on_bulk,
    )


@contextmanager
def _lone_error() -> Iterator[None]:
    """What the caller's block or the conductor raised leaves as it came."""
    try:
        yield
    except ExceptionGroup as group:
        if len(group.exceptions) > 1:
            raise
        raise group.exceptions[0] from None


@asynccontextmanager
async def _attended(
    conductor: Conductor, fleet: Fleet, announcing: Background
) -> AsyncIterator[None]:
    """Form rings and heed the register inside the block; then send all nodes home."""
    async with asyncio.TaskGroup() as tasks:
        running = [
            tasks.create_task(conductor.run(), name="conductor"),
            tasks.create_task(fleet.watch(), name="watch-register"),
            tasks.create_task(announcing(), name="announce"),
        ]
        try:
            yield
        finally:
            for task in running:
                task.cancel()
            fleet.close()


def _open_links(
    identity: Identity, options: ServeOptions, udp_port: int
) -> AbstractAsyncContextManager[Transport]:
    """What carries links; to nodes of this machine alone that is TCP, unless told."""
    way = options.way
    if way == "auto" and is_loopback(options.link_host) and not options.relay:
        way = "tls"
    return open_transport(
        identity,
        way=way,
        host=options.link_host,
        port=udp_port,
        relays=[options.relay] if options.relay else [],
    )


def _ticket_maker(transport: Transport, addresses: tuple[HostPort, ...]) -> MakeTicket:
    def make_ticket(invitation: Invitation, secret: str) -> Ticket:
        return Ticket(
            transport.identity.node_id,
            addresses,
            secret,
            invitation.expires,
            transport.udp_port,
            transport.relay,
        )

    return make_ticket
