"""A node that only lends memory: joins a gateway, computes nothing, holds others' blobs.

It starts no engine and reads no model. What goes wrong with the gateway ends it, and
all that it holds with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from atoll.domain.address import HostPort
from atoll.domain.control import (
    ControlMessage,
    Echo,
    EchoBack,
    Leave,
    Welcome,
)
from atoll.domain.errors import AtollError, LinkFault
from atoll.domain.ids import NodeId
from atoll.domain.lent_memory import Borrower, BorrowerGone, Lent
from atoll.net.identity import Identity
from atoll.net.link import MEMORY, ControlInbox, ControlLink, Kind, LinkSettings
from atoll.net.listener import Takers
from atoll.net.ticket import relay_token
from atoll.net.transport import Transport, open_transport
from atoll.node.blob_store import BlobStore
from atoll.node.daemon import ANYWHERE, LOOPBACK, Notice
from atoll.node.dial import dial_gateway, is_here, way_for
from atoll.node.hearing import hear_gateway, protest
from atoll.node.introduction import introduction, own_address
from atoll.node.membership import Membership
from atoll.node.memory_host import BORROWERS_MAX, MemoryHost
from atoll.node.options import NodeOptions, host_id


class MemoryDaemon:
    """One such node's life, from joining to leaving.

    Args:
        identity: The node's key.
        options: What the owner chose; `lends_bytes` is above 0.
        tell: Takes one line at a time for the owner to read.
        welcomed: Called when the gateway has let us in.
        settings: Times of the links.
    """

    def __init__(
        self,
        identity: Identity,
        options: NodeOptions,
        *,
        tell: Notice,
        welcomed: Callable[[], None] = lambda: None,
        settings: LinkSettings | None = None,
    ) -> None:
        self._identity = identity
        self._options = options
        self._tell = tell
        self._welcomed = welcomed
        self._settings = settings or LinkSettings()
        self._link: ControlLink
        self._transport: Transport
        self._host: MemoryHost

    async def run(self, membership: Membership) -> None:
        """Join, lend, and return when the gateway says goodbye.

        Raises:
            AtollError: The node was refused, or lost its gateway.
        """
        async with open_transport(
            self._identity,
            way=way_for(membership, self._options.way),
            host=LOOPBACK if is_here(membership) else ANYWHERE,
            relays=[membership.relay] if membership.relay else [],
            relay_token=relay_token(membership.secret),
            settings=self._settings,
        ) as transport:
            self._transport = transport
            self._link = link = await dial_gateway(membership, transport)
            self._host = host = MemoryHost(
                BlobStore(self._options.lends_bytes),
                membership.gateway,
                send=self._report,
                endpoint=transport.endpoint,
            )
            try:
                async with transport.listen(
                    self._options.host or link.local_host or LOOPBACK,
                    self._options.port,
                    Takers(self._authorise, on_memory=host.on_memory),
                ) as listener:
                    places = (listener, link, transport, membership.relay)
                    address = own_address(self._options, *places)
                    host.is_hidden = not (address.tls or address.relay)
                    secret = membership.secret
                    link.send(introduction(self._options, secret, address, host=host_id()))
                    await self._serve(link)
            except LinkFault as fault:
                link.close(fault)
                raise
            finally:
                host.close()
                link.close()

    async def _serve(self, link: ControlLink) -> None:
        # Whoever may borrow is named at once when we come.
        inbox = ControlInbox(link, limit=2 * BORROWERS_MAX)
        try:
            async with asyncio.TaskGroup() as tasks:
                lending = tasks.create_task(self._host.run(), name="lend-memory")
                try:
                    await hear_gateway(inbox, lambda message: self._obey(message, tasks))
                except asyncio.CancelledError:
                    link.send(Leave("it was stopped"))
                    raise
                lending.cancel()
        except* AtollError as group:
            raise group.exceptions[0] from None

    def _obey(self, message: ControlMessage, tasks: asyncio.TaskGroup) -> bool:
        """Act on one message of the gateway; False: it was the last."""
        match message:
            case Welcome(name, outside):
                self._welcomed()
                endpoint = self._transport.endpoint
                if endpoint is not None and outside:
                    place = HostPort.parse(outside)
                    tasks.create_task(endpoint.add_outside_address(place), name="outside-address")
                lent = self._options.lends_bytes / 1e9
                self._tell(f"joined as {name}; lending {lent:.2f} GB of memory, computing nothing")
            case Borrower() | BorrowerGone():
                self._host.note(message)
            case Echo(number):
                self._link.send(EchoBack(number))
            case Leave(reason):
                self._tell(f"the gateway said goodbye: {reason}")
                return False
            case _:
                raise protest(message)
        return True

    def _report(self, lent: Lent) -> None:
        self._link.send(lent)

    def _authorise(self, peer: NodeId, kind: Kind) -> None:
        """Only those that the gateway named may borrow, and nobody anything else."""
        if kind != MEMORY:
            raise LinkFault("this node only lends memory")
        self._host.authorise(peer)
