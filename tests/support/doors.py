"""A gateway's door without its ring: a fleet with a waiting room that can be dialled."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.hand_gateway import Heard

from atoll.domain.address import HostPort
from atoll.domain.control import Approved, CodeConfirmed, Knock, KnockAnswer, Reveal
from atoll.domain.ids import NodeId
from atoll.members.fleet import Fleet
from atoll.members.join_files import JoinFiles
from atoll.members.knocks import KNOCKS_FILE, Knocks, WaitingNode
from atoll.members.register import Invitation, Register
from atoll.members.waiting_room import WaitingRoom
from atoll.net.discovery import FoundGateway
from atoll.net.identity import Identity
from atoll.net.link import ControlLink
from atoll.net.listener import Takers, listen
from atoll.net.pairing import code_of, commitment_to
from atoll.net.ticket import Ticket
from atoll.net.tls import dial_control

LOOPBACK = "127.0.0.1"
TERMS = Approved((HostPort("10.1.2.3", 8643),), 8644, "https://relay.example")


@dataclass
class HandKnocker:
    """A node that knocks by hand."""

    identity: Identity
    gateway: NodeId
    link: ControlLink
    heard: Heard
    nonce: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    code: str = ""

    @property
    def key(self) -> NodeId:
        return self.identity.node_id

    def knock(self, name: str = "anna-pc") -> None:
        commitment = commitment_to(self.nonce, gateway=self.gateway, node=self.key)
        self.link.send(Knock(name, commitment))

    async def reveal(self) -> None:
        answer = await self.heard.next_message(KnockAnswer)
        self.link.send(Reveal(self.nonce))
        self.code = code_of(self.nonce, answer.nonce, gateway=self.gateway, node=self.key)

    def confirm(self) -> None:
        self.link.send(CodeConfirmed())


@dataclass
class Door:
    """The gateway's side, and ways to its outside."""

    identity: Identity
    fleet: Fleet
    room: WaitingRoom
    register: Register
    knocks: Knocks
    port: int
    stack: AsyncExitStack
    said: list[str]
    clock: list[float]

    @property
    def key(self) -> NodeId:
        return self.identity.node_id

    @property
    def found(self) -> FoundGateway:
        """As a node would have found it."""
        return FoundGateway("kitchen", self.key, (HostPort(LOOPBACK, self.port),))

    async def dial(self, identity: Identity | None = None) -> HandKnocker:
        identity = identity or Identity.generate()
        link = await dial_control(LOOPBACK, self.port, expected=self.key, identity=identity)
        heard = Heard()
        link.start(heard)
        self.stack.callback(link.close)
        return HandKnocker(identity, self.key, link, heard)

    async def knocked(
        self, name: str = "anna-pc", identity: Identity | None = None
    ) -> tuple[HandKnocker, WaitingNode]:
        """A node whose code both sides show."""
        knocker = await self.dial(identity)
        knocker.knock(name)
        await knocker.reveal()
        return knocker, await self.wait_shown(knocker.key)

    async def wait_shown(self, key: NodeId, *, confirmed: bool = False) -> WaitingNode:
        """Wait until the operator sees it."""
        async with asyncio.timeout(6):
            while True:
                for node in self.knocks.waiting():
                    if node.node == key and node.confirmed >= confirmed:
                        return node
                await asyncio.sleep(0.01)

    async def wait_nobody(self) -> None:
        async with asyncio.timeout(6):
            while self.knocks.waiting():
                await asyncio.sleep(0.01)


@asynccontextmanager
async def open_door(folder: Path, *, is_open: bool = True) -> AsyncIterator[Door]:
    """One place, on loopback; the register and the list of who waits lie in `folder`."""
    said: list[str] = []
    clock = [0.0]
    identity = Identity.generate()
    register, knocks = Register(folder / "register.json"), Knocks(folder / KNOCKS_FILE)
    room = WaitingRoom(identity.node_id, register, knocks, tell=said.append, clock=lambda: clock[0])
    fleet = Fleet(1, register, room=room, tell=said.append)
    async with (
        AsyncExitStack() as stack,
        listen(
            *(LOOPBACK, 0),
            identity=identity,
            takers=Takers(lambda _peer, _kind: None, on_control=fleet.on_control),
        ) as listener,
    ):
        address = HostPort(LOOPBACK, listener.port)

        def make_ticket(invitation: Invitation, secret: str) -> Ticket:
            return Ticket(identity.node_id, (address,), secret, invitation.expires)

        fleet.open(JoinFiles(folder / "join", register, make_ticket))
        if is_open:
            room.open(TERMS)
        try:
            yield Door(identity, fleet, room, register, knocks, listener.port, stack, said, clock)
        finally:
            fleet.close()
