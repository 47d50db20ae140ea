"""The transport of a simulated machine: the product's, over simulated connections."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any, cast

from atoll.domain.address import Address
from atoll.domain.ids import NodeId
from atoll.net.identity import Identity
from atoll.net.link import (
    BULK,
    CONTROL,
    DATA,
    MEMORY,
    TIMING,
    BulkLink,
    ControlLink,
    DataLink,
    Kind,
    LinkSettings,
    MemoryLink,
    TimingLink,
)
from atoll.net.listener import Listener, Takers
from atoll.net.stream_link import StreamLink
from atoll.net.transport import Transport
from atoll.world.machine import Machine
from atoll.world.network import Network


class SimTransport(Transport):
    """Dials and takes links of one machine.

    Args:
        net: All ways.
        machine: Whose it is.
        identity: Its key.
        settings: Times of the links.
    """

    def __init__(
        self, net: Network, machine: Machine, identity: Identity, settings: LinkSettings
    ) -> None:
        super().__init__(identity, settings, "tls", None)
        self._net, self._machine = net, machine

    async def dial_control(self, address: Address, *, expected: NodeId) -> ControlLink:
        """As `Transport` does."""
        return cast(ControlLink, await self._link(address, CONTROL, expected))

    async def dial_data(self, address: Address, *, expected: NodeId) -> DataLink:
        """As `Transport` does."""
        return cast(DataLink, await self._link(address, DATA, expected))

    async def dial_bulk(self, address: Address, *, expected: NodeId) -> BulkLink:
        """As `Transport` does."""
        return cast(BulkLink, await self._link(address, BULK, expected))

    async def dial_timing(self, address: Address, *, expected: NodeId) -> TimingLink:
        """As `Transport` does."""
        return cast(TimingLink, await self._link(address, TIMING, expected))

    async def dial_memory(self, address: Address, *, expected: NodeId) -> MemoryLink:
        """As `Transport` does."""
        return cast(MemoryLink, await self._link(address, MEMORY, expected))

    async def _link(self, address: Address, kind: Kind, expected: NodeId) -> StreamLink:
        return await self._net.dial(
            *(self._machine, address.tls, kind),
            me=self.identity.node_id,
            expected=expected,
            settings=self.settings,
        )

    @contextlib.asynccontextmanager
    async def listen(self, host: str, port: int, takers: Takers) -> AsyncIterator[Listener]:
        """Take links at a port of the machine."""
        assert host == self._machine.host, f"{self._machine.name} is not at {host}"
        opened = self._net.listen(self._machine, port, self.identity.node_id, takers, self.settings)
        try:
            yield cast(Listener, opened)
        finally:
            self._net.close(opened)


def transports_of(net: Network, machine: Machine) -> Any:
    """What stands for `net.transport.open_transport` on a machine."""

    @contextlib.asynccontextmanager
    async def open_transport(
        identity: Identity, *, settings: LinkSettings | None = None, **_ways: object
    ) -> AsyncIterator[Transport]:
        yield SimTransport(net, machine, identity, settings or LinkSettings())

    return open_transport
