"""Real links over loopback, on both event loops the product may run on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvloop

from atoll.domain.address import Address, HostPort
from atoll.domain.errors import LinkFault
from atoll.domain.ids import NodeId
from atoll.domain.wire import DataMessage
from atoll.net.identity import Identity
from atoll.net.iroh_endpoint import IrohEndpoint, open_endpoint
from atoll.net.link import (
    BulkLink,
    ControlLink,
    DataLimits,
    DataLink,
    Kind,
    LinkSettings,
    MemoryLink,
    TimingLink,
    UnusableFrame,
)
from atoll.net.listener import Authorise, Listener, Takers, listen
from atoll.net.tls import dial_bulk, dial_control, dial_data, dial_memory, dial_timing

PEER = Path(__file__).with_name("peer.py")
LIMITS = DataLimits(n_embd=4, rows_max=8)


ON_ONE_LOOP = {
    "test_discovery.py",
    "test_iroh_endpoint.py",
    "test_link_kinds.py",
    "test_memory_link.py",
    "test_relay.py",
    "test_timing_link.py",
    "test_transport.py",
}
"""What stands on links that test_stream_link.py and others try on both."""


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run asynchronous tests of the links on both loops, what stands on them on the product's."""
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
        "uvloop": uvloop.new_event_loop
    }
    if item.path.name not in ON_ONE_LOOP:
        factories["asyncio"] = asyncio.new_event_loop
    return factories


@dataclass
class Recorder:
    """A data handler that keeps all it is told."""

    frames: asyncio.Queue[tuple[DataMessage, bytes]] = field(default_factory=asyncio.Queue)
    batches: list[int] = field(default_factory=list)
    ended: asyncio.Future[LinkFault | None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    seen: int = 0

    def on_frame(self, message: DataMessage, payload: bytes) -> None:
        self.frames.put_nowait((message, payload))
        self.seen += 1

    def on_unusable(self, fault: UnusableFrame) -> None:
        raise fault

    def on_batch_end(self) -> None:
        self.batches.append(self.seen)

    def on_closed(self, reason: LinkFault | None) -> None:
        self.ended.set_result(reason)


@dataclass
class Station:
    """A listener over TLS that takes both kinds of link, and what arrived at it."""

    listener: Listener
    identity: Identity
    data: asyncio.Queue[DataLink] = field(default_factory=asyncio.Queue)
    control: asyncio.Queue[ControlLink] = field(default_factory=asyncio.Queue)
    bulk: asyncio.Queue[BulkLink] = field(default_factory=asyncio.Queue)
    timing: asyncio.Queue[TimingLink] = field(default_factory=asyncio.Queue)
    memory: asyncio.Queue[MemoryLink] = field(default_factory=asyncio.Queue)
    way = "tls"

    @property
    def port(self) -> int:
        return self.listener.port

    async def dial_data(self, settings: LinkSettings | None = None) -> Any:
        return await dial_data(
            "127.0.0.1",
            self.port,
            expected=self.identity.node_id,
            identity=Identity.generate(),
            settings=settings,
        )

    async def dial_control(self, settings: LinkSettings | None = None) -> Any:
        return await dial_control(
            "127.0.0.1",
            self.port,
            expected=self.identity.node_id,
            identity=Identity.generate(),
            settings=settings,
        )

    async def dial_bulk(self, settings: LinkSettings | None = None) -> Any:
        return await dial_bulk(
            "127.0.0.1",
            self.port,
            expected=self.identity.node_id,
            identity=Identity.generate(),
            settings=settings,
        )

    async def dial_timing(self, settings: LinkSettings | None = None) -> Any:
        return await dial_timing(
            "127.0.0.1",
            self.port,
            expected=self.identity.node_id,
            identity=Identity.generate(),
            settings=settings,
        )

    async def dial_memory(self, settings: LinkSettings | None = None) -> Any:
        return await dial_memory(
            "127.0.0.1",
            self.port,
            expected=self.identity.node_id,
            identity=Identity.generate(),
            settings=settings,
        )


@dataclass
class QuicStation:
    """The same over QUIC, with an endpoint of a stranger to dial it from."""

    endpoint: IrohEndpoint
    identity: Identity
    stranger: IrohEndpoint
    client: Identity
    data: asyncio.Queue[DataLink] = field(default_factory=asyncio.Queue)
    control: asyncio.Queue[ControlLink] = field(default_factory=asyncio.Queue)
    bulk: asyncio.Queue[BulkLink] = field(default_factory=asyncio.Queue)
    timing: asyncio.Queue[TimingLink] = field(default_factory=asyncio.Queue)
    memory: asyncio.Queue[MemoryLink] = field(default_factory=asyncio.Queue)
    way = "quic"

    @property
    def port(self) -> int:
        return self.endpoint.port

    @property
    def address(self) -> Address:
        return Address(quic=(HostPort("127.0.0.1", self.port),))

    async def dial_data(self, settings: LinkSettings | None = None) -> Any:
        return await self.stranger.dial_data(
            self.address, expected=self.identity.node_id, settings=settings
        )

    async def dial_control(self, settings: LinkSettings | None = None) -> Any:
        return await self.stranger.dial_control(
            self.address, expected=self.identity.node_id, settings=settings
        )

    async def dial_bulk(self, settings: LinkSettings | None = None) -> Any:
        return await self.stranger.dial_bulk(
            self.address, expected=self.identity.node_id, settings=settings
        )

    async def dial_timing(self, settings: LinkSettings | None = None) -> Any:
        return await self.stranger.dial_timing(
            self.address, expected=self.identity.node_id, settings=settings
        )

    async def dial_memory(self, settings: LinkSettings | None = None) -> Any:
        return await self.stranger.dial_memory(
            self.address, expected=self.identity.node_id, settings=settings
        )


OpenStation = Callable[..., Any]


def everybody(peer: NodeId, kind: Kind) -> None:
    """Lets every proven key in."""


@asynccontextmanager
async def tls_station(
    *,
    authorise: Authorise = everybody,
    settings: LinkSettings | None = None,
    bulk: bool = True,
) -> AsyncIterator[Station]:
    identity = Identity.generate()
    data: asyncio.Queue[DataLink] = asyncio.Queue()
    control: asyncio.Queue[ControlLink] = asyncio.Queue()
    bulks: asyncio.Queue[BulkLink] = asyncio.Queue()
    timings: asyncio.Queue[TimingLink] = asyncio.Queue()
    memories: asyncio.Queue[MemoryLink] = asyncio.Queue()
    async with listen(
        "127.0.0.1",
        0,
        identity=identity,
        takers=Takers(
            authorise,
            on_data=data.put_nowait,
            on_control=control.put_nowait,
            on_bulk=bulks.put_nowait if bulk else None,
            on_timing=timings.put_nowait,
            on_memory=memories.put_nowait,
        ),
        settings=settings,
    ) as listener:
        yield Station(listener, identity, data, control, bulks, timings, memories)


@asynccontextmanager
async def quic_station(
    *,
    authorise: Authorise = everybody,
    settings: LinkSettings | None = None,
    bulk: bool = True,
) -> AsyncIterator[QuicStation]:
    pytest.importorskip("iroh", reason="no wheel for this system")
    identity, client = Identity.generate(), Identity.generate()
    async with (
        open_endpoint(identity, host="127.0.0.1") as endpoint,
        open_endpoint(client, host="127.0.0.1") as stranger,
    ):
        station = QuicStation(endpoint, identity, stranger, client)
        with endpoint.taking(
            Takers(
                authorise,
                on_data=station.data.put_nowait,
                on_control=station.control.put_nowait,
                on_bulk=station.bulk.put_nowait if bulk else None,
                on_timing=station.timing.put_nowait,
                on_memory=station.memory.put_nowait,
            ),
            settings=settings,
        ):
            yield station


@pytest.fixture
def open_station() -> OpenStation:
    return tls_station


@pytest.fixture
def open_quic_station() -> OpenStation:
    return quic_station


@pytest.fixture(params=["tls", "quic"])
def open_any_station(request: pytest.FixtureRequest) -> OpenStation:
    """Stations over each thing that carries links."""
    return tls_station if request.param == "tls" else quic_station


@dataclass
class Pair:
    """Two started ends of one data link."""

    near: DataLink
    far: DataLink
    near_heard: Recorder
    far_heard: Recorder


@pytest.fixture
def open_pair(open_any_station: OpenStation) -> Callable[..., Any]:
    @asynccontextmanager
    async def pair(
        *, near: LinkSettings | None = None, far: LinkSettings | None = None
    ) -> AsyncIterator[Pair]:
        async with open_any_station(settings=far) as station:
            ours = await station.dial_data(settings=near)
            theirs = await station.data.get()
            pair = Pair(ours, theirs, Recorder(), Recorder())
            ours.start(pair.near_heard, LIMITS)
            theirs.start(pair.far_heard, LIMITS)
            try:
                yield pair
            finally:
                ours.close()
                theirs.close()
                await ours.wait_closed()
                await theirs.wait_closed()

    return pair


@pytest.fixture
def start_peer() -> Callable[[Station], Any]:
    """Start a process of its own that dials the station; killed by its id at the end."""

    @asynccontextmanager
    async def peer(station: Station) -> AsyncIterator[asyncio.subprocess.Process]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(PEER), stdin=asyncio.subprocess.PIPE
        )
        assert process.stdin is not None
        told = {"key": station.identity.node_id, "port": station.port, "way": station.way}
        process.stdin.write(json.dumps(told).encode())
        process.stdin.close()
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    return peer


Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
def serve_raw() -> Callable[..., Any]:
    """Serve a function that talks by hand; leaves when it has ended and its sockets are closed."""

    @asynccontextmanager
    async def serve(talk: Talk, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
        talking: set[asyncio.Future[None]] = set()

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            talking.add(done)
            try:
                with contextlib.suppress(OSError):
                    await talk(reader, writer)
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
            finally:
                done.set_result(None)

        server = await asyncio.start_server(
            handle, "127.0.0.1", 0, ssl=tls, ssl_shutdown_timeout=1 if tls else None
        )
        async with server:
            yield server.sockets[0].getsockname()[1]
        if talking:
            await asyncio.wait(talking, timeout=5)

    return serve
