"""The one place that chooses what carries a link: TLS over TCP, or QUIC.

Where a TCP port can be reached TLS is taken: it costs a quarter of QUIC's time
and processor for each hop. Elsewhere, behind home routers and across the
internet, QUIC gets through. The choice is by trial, and either can be forced.
The ring does not know which it is on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from atoll.domain.address import Address, HostPort
from atoll.domain.errors import LinkFault
from atoll.domain.ids import NodeId
from atoll.net import iroh_patch, tls
from atoll.net.identity import Identity
from atoll.net.iroh_endpoint import IrohEndpoint, open_endpoint
from atoll.net.link import (
    BulkLink,
    ControlLink,
    DataLink,
    LinkSettings,
    MemoryLink,
    NotWelcome,
    TimingLink,
)
from atoll.net.listener import Listener, Takers, listen

Way = Literal["auto", "tls", "quic"]
TLS_TRIAL_S = 2.0
"""How long TLS may take to stand before QUIC is tried instead."""
_L = TypeVar("_L")


@dataclass
class Transport:
    """Dials and takes links for one identity, over all that it has; made by `open_transport`."""

    identity: Identity
    settings: LinkSettings
    way: Way
    endpoint: IrohEndpoint | None
    relay: str = ""
    """Where others can meet the endpoint; empty for nowhere."""
    _quic_peers: set[NodeId] = field(default_factory=set)

    @property
    def udp_port(self) -> int:
        """The port of QUIC; 0 where there is none."""
        return self.endpoint.port if self.endpoint else 0

    async def dial_control(self, address: Address, *, expected: NodeId) -> ControlLink:
        """A control link to the holder of key `expected`; `start` it next.

        Raises:
            WrongPeer: Another key answered; nothing was sent to it.
            NotWelcome: It refuses us, in its own words.
            LinkFault: It can be reached in none of the ways it may be.
        """

        def over_tls(place: HostPort) -> Awaitable[ControlLink]:
            return tls.dial_control(
                place.host,
                place.port,
                expected=expected,
                identity=self.identity,
                settings=self.settings,
            )

        def over_quic(endpoint: IrohEndpoint) -> Awaitable[ControlLink]:
            return endpoint.dial_control(address, expected=expected, settings=self.settings)

        return await self._dial(address, expected, over_tls, over_quic)

    async def dial_data(self, address: Address, *, expected: NodeId) -> DataLink:
        """A data link to the holder of key `expected`; otherwise as `dial_control`."""

        def over_tls(place: HostPort) -> Awaitable[DataLink]:
            return tls.dial_data(
                place.host,
                place.port,
                expected=expected,
                identity=self.identity,
                settings=self.settings,
            )

        def over_quic(endpoint: IrohEndpoint) -> Awaitable[DataLink]:
            return endpoint.dial_data(address, expected=expected, settings=self.settings)

        return await self._dial(address, expected, over_tls, over_quic)

    async def dial_bulk(self, address: Address, *, expected: NodeId) -> BulkLink:
        """A bulk link to the holder of key `expected`; otherwise as `dial_control`."""

        def over_tls(place: HostPort) -> Awaitable[BulkLink]:
            return tls.dial_bulk(
                place.host,
                place.port,
                expected=expected,
                identity=self.identity,
                settings=self.settings,
            )

        def over_quic(endpoint: IrohEndpoint) -> Awaitable[BulkLink]:
            return endpoint.dial_bulk(address, expected=expected, settings=self.settings)

        return await self._dial(address, expected, over_tls, over_quic)

    async def dial_timing(self, address: Address, *, expected: NodeId) -> TimingLink:
        """A timing link to the holder of key `expected`; otherwise as `dial_control`."""

        def over_tls(place: HostPort) -> Awaitable[TimingLink]:
            return tls.dial_timing(
                place.host,
                place.port,
                expected=expected,
                identity=self.identity,
                settings=self.settings,
            )

        def over_quic(endpoint: IrohEndpoint) -> Awaitable[TimingLink]:
            return endpoint.dial_timing(address, expected=expected, settings=self.settings)

        return await self._dial(address, expected, over_tls, over_quic)

    async def dial_memory(self, address: Address, *, expected: NodeId) -> MemoryLink:
        """A memory link to the holder of key `expected`; otherwise as `dial_control`."""

        def over_tls(place: HostPort) -> Awaitable[MemoryLink]:
            return tls.dial_memory(
                place.host,
                place.port,
                expected=expected,
                identity=self.identity,
                settings=self.settings,
            )

        def over_quic(endpoint: IrohEndpoint) -> Awaitable[MemoryLink]:
            return endpoint.dial_memory(address, expected=expected, settings=self.settings)

        return await self._dial(address, expected, over_tls, over_quic)

    async def _dial(
        self,
        address: Address,
        expected: NodeId,
        over_tls: Callable[[HostPort], Awaitable[_L]],
        over_quic: Callable[[IrohEndpoint], Awaitable[_L]],
    ) -> _L:
        """Try one after the other: of two at once the far side would see both."""
        place = None if self.way == "quic" else address.tls
        endpoint = self.endpoint if self.way != "tls" and _has_quic(address) else None
        if place is not None and (endpoint is None or expected not in self._quic_peers):
            try:
                async with asyncio.timeout(TLS_TRIAL_S if endpoint else None):
                    return await over_tls(place)
            except NotWelcome:
                raise  # it knows us, and another way leads to the same answer
            except (LinkFault, TimeoutError):
                if endpoint is None:
                    raise
        if endpoint is None:
            raise LinkFault(
                f"node {expected[:12]}… has no address that can be dialed here",
                hint="it needs a TCP port, or both sides QUIC and a UDP port or a relay",
            )
        link = await over_quic(endpoint)
        self._quic_peers.add(expected)
        return link

    @contextlib.asynccontextmanager
    async def listen(self, host: str, port: int, takers: Takers) -> AsyncIterator[Listener]:
        """Take links at TCP `host`:`port`, and at the endpoint's UDP port where there is one.

        Raises:
            LinkFault: The address cannot be listened at.
        """
        with contextlib.ExitStack() as stack:
            if self.endpoint is not None:
                stack.enter_context(self.endpoint.taking(takers, settings=self.settings))
            async with listen(
                host, port, identity=self.identity, takers=takers, settings=self.settings
            ) as listener:
                yield listener


def _has_quic(address: Address) -> bool:
    return bool(address.quic or address.relay)


@contextlib.asynccontextmanager
async def open_transport(
    identity: Identity,
    *,
    way: Way = "auto",
    host: str = "0.0.0.0",  # noqa: S104 - peers anywhere are to reach it
    port: int = 0,
    relays: Sequence[str] = (),
    relay_token: str = "",
    settings: LinkSettings | None = None,
) -> AsyncIterator[Transport]:
    """What dials and takes links, with QUIC at UDP `host`:`port` unless `way` is "tls".

    `relay_token` lets a guest in at the relays.

    Leaving the context ends the links over QUIC; those over TLS are their takers'.

    Raises:
        LinkFault: `way` is "quic" and it cannot be had here, or the port is taken.
    """
    settings = settings or LinkSettings()
    if way == "tls" or (way == "auto" and not iroh_patch.is_available()):
        yield Transport(identity, settings, way, None)
        return
    async with open_endpoint(
        identity,
        host=host,
        port=port,
        relays=relays,
        relay_token=relay_token,
        settings=settings,
    ) as endpoint:
        yield Transport(identity, settings, way, endpoint, relays[0] if relays else "")
