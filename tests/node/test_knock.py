"""Asking in without a ticket, before a real gateway's door, a false one, and a rogue between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.support.doors import LOOPBACK, TERMS, Door, open_door
from tests.support.hand_gateway import WAIT_S, Heard

from atoll.domain.address import HostPort
from atoll.domain.control import (
    Approved,
    CodeConfirmed,
    ControlMessage,
    Knock,
    KnockAnswer,
    Leave,
    Refusal,
    Reveal,
    Welcome,
)
from atoll.domain.errors import LinkFault, ProtocolFault
from atoll.net.discovery import FoundGateway
from atoll.net.identity import Identity
from atoll.net.link import ControlLink
from atoll.net.listener import Takers, listen
from atoll.net.pairing import is_same_code
from atoll.node import knock
from atoll.node.knock import NotLetIn, knock_at
from atoll.node.membership import Membership

pytestmark = pytest.mark.network


@dataclass
class Owner:
    """The person at the node: sees a code, and answers when told to."""

    code: asyncio.Future[str] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    answer: asyncio.Future[bool] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    taken_back: bool = False

    async def confirm(self, code: str) -> bool:
        self.code.set_result(code)
        try:
            return await self.answer
        except asyncio.CancelledError:
            self.taken_back = True
            raise

    async def saw(self) -> str:
        return await asyncio.wait_for(asyncio.shield(self.code), WAIT_S)


@dataclass
class Joining:
    """A node that knocks, with its owner."""

    identity: Identity
    owner: Owner
    work: asyncio.Task[Membership]

    async def end(self) -> Membership:
        return await asyncio.wait_for(asyncio.shield(self.work), WAIT_S)

    async def failure(self) -> LinkFault:
        with pytest.raises(LinkFault) as caught:
            await self.end()
        return caught.value


@asynccontextmanager
async def joining(found: FoundGateway) -> AsyncIterator[Joining]:
    identity, owner = Identity.generate(), Owner()
    loop = asyncio.get_running_loop()
    work = loop.create_task(knock_at(found, identity, "anna-pc", confirm=owner.confirm, way="tls"))
    try:
        yield Joining(identity, owner, work)
    finally:
        work.cancel()
        await asyncio.wait([work])


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    async with open_door(tmp_path) as opened:
        yield opened


async def test_both_confirm_and_the_gateway_is_pinned(door: Door) -> None:
    async with joining(door.found) as node:
        code = await node.owner.saw()
        waiting = await door.wait_shown(node.identity.node_id)
        assert waiting.code == code
        node.owner.answer.set_result(True)
        await door.wait_shown(node.identity.node_id, confirmed=True)
        assert not node.work.done()
        door.knocks.approve(waiting, code)
        door.room.heed()
        membership = await node.end()
    assert membership == Membership(
        door.key,
        (*TERMS.addresses, HostPort(LOOPBACK, door.port)),
        "",
        TERMS.udp_port,
        TERMS.relay,
    )
    assert [n.node for n in door.register.nodes()] == [node.identity.node_id]


async def test_of_several_places_the_true_one_is_kept(door: Door) -> None:
    places = (HostPort("127.0.0.2", 1), *door.found.places)
    found = FoundGateway("kitchen", door.key, places)
    async with joining(found) as node:
        waiting = await door.wait_shown(node.identity.node_id)
        door.knocks.approve(waiting, await node.owner.saw())
        node.owner.answer.set_result(True)
        membership = await node.end()
    assert membership.addresses == (*TERMS.addresses, HostPort(LOOPBACK, door.port))


async def test_the_operator_may_be_first(door: Door) -> None:
    async with joining(door.found) as node:
        waiting = await door.wait_shown(node.identity.node_id)
        door.knocks.approve(waiting, await node.owner.saw())
        door.room.heed()
        assert door.register.nodes() == ()
        node.owner.answer.set_result(True)
        await node.end()


async def test_codes_that_differ_end_it(door: Door) -> None:
    async with joining(door.found) as node:
        await door.wait_shown(node.identity.node_id)
        node.owner.answer.set_result(False)
        fault = await node.failure()
        assert isinstance(fault, NotLetIn)
        assert "joins nobody" in fault.problem
        assert "ticket" in fault.hint
        await door.wait_nobody()
    assert door.register.nodes() == ()
    assert any("codes differ" in line for line in door.said)


@pytest.mark.parametrize("answered", [True, False])
async def test_the_operator_declines(door: Door, answered: bool) -> None:
    async with joining(door.found) as node:
        waiting = await door.wait_shown(node.identity.node_id)
        if answered:
            node.owner.answer.set_result(True)
        door.knocks.deny(waiting)
        door.room.heed()
        fault = await node.failure()
    assert "operator declined" in fault.problem
    assert "atoll invite" in fault.hint
    assert node.owner.taken_back != answered


async def test_a_gateway_that_goes_while_it_is_asked(door: Door) -> None:
    async with joining(door.found) as node:
        await node.owner.saw()
        door.fleet.close()
        fault = await node.failure()
    assert "shutting down" in fault.problem
    assert node.owner.taken_back


async def test_a_node_that_is_stopped_says_so(door: Door) -> None:
    async with joining(door.found) as node:
        await door.wait_shown(node.identity.node_id)
        node.work.cancel()
        await door.wait_nobody()
    assert "anna-pc went: it was stopped" in door.said


async def test_an_owner_who_is_away(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knock, "WAIT_S", 0.2)
    async with joining(door.found) as node:
        fault = await node.failure()
    assert "not confirmed on both sides within" in fault.problem
    assert node.owner.taken_back


async def test_a_key_that_is_not_there(door: Door) -> None:
    """What an announcement claims is what has to answer."""
    wrong = FoundGateway("kitchen", Identity.generate().node_id, door.found.places)
    async with joining(wrong) as node:
        assert "key" in (await node.failure()).problem
        assert not node.owner.code.done()
    assert door.knocks.waiting() == ()


async def test_nobody_listens() -> None:
    nowhere = FoundGateway("x", Identity.generate().node_id, (HostPort(LOOPBACK, 1),))
    async with joining(nowhere) as node:
        assert isinstance(await node.failure(), LinkFault)


@dataclass
class FalseGateway:
    """Somebody who answers knocks by hand."""

    identity: Identity
    port: int
    controls: asyncio.Queue[ControlLink]

    @property
    def found(self) -> FoundGateway:
        return FoundGateway("kitchen", self.identity.node_id, (HostPort(LOOPBACK, self.port),))

    async def take(self) -> tuple[ControlLink, Heard, Knock]:
        async with asyncio.timeout(WAIT_S):
            link = await self.controls.get()
        heard = Heard()
        link.start(heard)
        return link, heard, await heard.next_message(Knock)


@pytest.fixture
async def rogue() -> AsyncIterator[FalseGateway]:
    identity, controls = Identity.generate(), asyncio.Queue[ControlLink]()
    async with listen(
        *(LOOPBACK, 0),
        identity=identity,
        takers=Takers(lambda _peer, _kind: None, on_control=controls.put_nowait),
    ) as listener:
        yield FalseGateway(identity, listener.port, controls)


async def test_a_rogue_between_the_two_cannot_make_the_codes_agree(
    door: Door, rogue: FalseGateway
) -> None:
    """It announces the gateway's name with its own key, and passes on what it can."""
    async with joining(rogue.found) as node:
        link, heard, _ = await rogue.take()
        inside = await door.dial()
        inside.knock("anna-pc")
        answer = await inside.heard.next_message(KnockAnswer)
        link.send(answer)
        revealed = await heard.next_message(Reveal)
        # The node's nonce is not what the rogue committed itself to, so only its own will do.
        inside.link.send(Reveal(inside.nonce))
        waiting = await door.wait_shown(inside.key)
        shown, seen = waiting.code, await node.owner.saw()
        assert revealed.nonce != inside.nonce
        assert not is_same_code(shown, seen)
        node.owner.answer.set_result(is_same_code(shown, seen))
        inside.confirm()
        door.knocks.deny(waiting)
        door.room.heed()
        assert "joins nobody" in (await node.failure()).problem
    assert door.register.nodes() == ()


async def test_the_nodes_nonce_passed_on_is_refused(door: Door, rogue: FalseGateway) -> None:
    async with joining(rogue.found):
        link, heard, knocked = await rogue.take()
        inside = await door.dial()
        inside.link.send(knocked)
        link.send(await inside.heard.next_message(KnockAnswer))
        inside.link.send(await heard.next_message(Reveal))
        told = await inside.heard.next_message(Refusal)
    assert "committed" in told.problem
    assert door.knocks.waiting() == ()


@pytest.mark.parametrize("message", [Approved(), Welcome("you"), Reveal(b"x" * 32)])
@pytest.mark.parametrize("answered", [False, True])
async def test_a_rogue_that_hurries_captures_nobody(
    rogue: FalseGateway, message: ControlMessage, answered: bool
) -> None:
    async with joining(rogue.found) as node:
        link, heard, _ = await rogue.take()
        if not answered:
            link.send(message)
            fault = await node.failure()
            assert isinstance(fault, ProtocolFault)
            assert "answered a knock with" in fault.problem
            return
        link.send(KnockAnswer(b"n" * 32))
        await heard.next_message(Reveal)
        await node.owner.saw()
        link.send(message)
        fault = await node.failure()
        assert isinstance(fault, ProtocolFault)
        assert "out of turn" in fault.problem
        assert node.owner.taken_back


async def test_words_of_a_rogue_cannot_steer_a_terminal(rogue: FalseGateway) -> None:
    async with joining(rogue.found) as node:
        link, _, _ = await rogue.take()
        link.send(Refusal("\x1b[2Jno\n" + "x" * 900, "\x07hint"))
        fault = await node.failure()
    assert "in: ?[2Jno?xx" in fault.problem
    assert len(fault.problem) < 600
    assert fault.hint == "?hint"


async def test_a_gateway_that_never_answers(
    rogue: FalseGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(knock, "ANSWER_S", 0.2)
    async with joining(rogue.found) as node:
        await rogue.take()
        assert "did not answer within 0.2 s" in (await node.failure()).problem


@pytest.mark.parametrize("goes", ["before", "after"])
async def test_a_gateway_that_is_gone(rogue: FalseGateway, goes: str) -> None:
    async with joining(rogue.found) as node:
        link, heard, _ = await rogue.take()
        if goes == "after":
            link.send(KnockAnswer(b"n" * 32))
            await heard.next_message(Reveal)
            node.owner.answer.set_result(True)
            await heard.next_message(CodeConfirmed)
        link.send(Leave("bye")) if goes == "before" else link.close()
        fault = await node.failure()
    assert ("a Leave" if goes == "before" else "the gateway is gone") in fault.problem
