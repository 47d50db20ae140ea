"""Coming without a ticket: compare a code with the gateway's operator, then pin its key.

Until the owner has confirmed the code and the gateway has said that its operator
did too, nothing is kept and nothing but a name is told.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable

from atoll.domain.control import (
    Approved,
    CodeConfirmed,
    ControlMessage,
    Knock,
    KnockAnswer,
    Leave,
    Refusal,
    Reveal,
)
from atoll.domain.errors import AtollError, LinkFault, ProtocolFault
from atoll.net.discovery import FoundGateway
from atoll.net.identity import Identity
from atoll.net.link import ControlInbox, ControlLink, LinkLost, peer_text
from atoll.net.pairing import NONCE_BYTES, WAIT_S, code_of, commitment_to
from atoll.net.transport import Way, open_transport
from atoll.node.dial import dial_gateway, way_for
from atoll.node.membership import Membership

ANSWER_S = 15.0
"""How long the gateway may take to answer a knock."""

Confirm = Callable[[str], Awaitable[bool]]
"""Asks the owner whether the gateway shows this code too."""


class NotLetIn(LinkFault):
    """Owner, operator or gateway did not agree; nothing was kept."""


async def knock_at(
    found: FoundGateway, identity: Identity, name: str, *, confirm: Confirm, way: Way = "auto"
) -> Membership:
    """Ask a gateway of this network to let this machine in.

    Args:
        found: Where it is said to be, and the key that it is said to have.
        identity: This machine's key.
        name: What to call it in the operator's list.
        confirm: Asks the owner; cancelled where there is nothing to confirm any more.
        way: What may carry the link.

    Returns:
        The gateway, with which the node may join as one that comes back.

    Raises:
        NotLetIn: Somebody declined, or nobody answered in time.
        LinkFault: The gateway cannot be reached, or does not hold the key.
    """
    membership = Membership(found.key, found.places, "", found.udp_port)
    async with open_transport(identity, way=way_for(membership, way)) as transport:
        link = await dial_gateway(membership, transport)
        try:
            terms = await _agree(link, identity, name, confirm)
        except asyncio.CancelledError:
            link.send(Leave("it was stopped"))
            raise
        finally:
            link.close()
            await link.wait_closed()
    # Of what the network said, only what turned out to be true is kept.
    good = (place for place in found.places if place.host == link.peer_host)
    addresses = tuple(dict.fromkeys((*terms.addresses, *good)))
    return Membership(found.key, addresses, "", terms.udp_port, terms.relay)


async def _agree(link: ControlLink, identity: Identity, name: str, confirm: Confirm) -> Approved:
    keys = {"gateway": link.peer, "node": identity.node_id}
    nonce = secrets.token_bytes(NONCE_BYTES)
    messages = aiter(ControlInbox(link))
    link.send(Knock(name, commitment_to(nonce, **keys)))
    try:
        async with asyncio.timeout(ANSWER_S):
            answer = await _next(messages)
    except TimeoutError:
        raise NotLetIn(
            f"the gateway did not answer within {ANSWER_S:g} s", hint="try again, or use a ticket"
        ) from None
    if not isinstance(answer, KnockAnswer):
        raise ProtocolFault(f"the gateway answered a knock with a {type(answer).__name__}")
    link.send(Reveal(nonce))
    code = code_of(nonce, answer.nonce, **keys)
    try:
        async with asyncio.timeout(WAIT_S):
            return await _wait_for_both(link, messages, code, confirm)
    except TimeoutError:
        raise NotLetIn(
            f"the code was not confirmed on both sides within {WAIT_S:.0f} s",
            hint="run atoll join again while the gateway's operator is there",
        ) from None


async def _wait_for_both(
    link: ControlLink, messages: AsyncIterator[ControlMessage], code: str, confirm: Confirm
) -> Approved:
    confirmed = False

    async def ask() -> None:
        nonlocal confirmed
        if not await confirm(code):
            link.send(Leave("its owner says that the codes differ"))
            raise NotLetIn(
                "the codes were not confirmed to be equal, so this machine joins nobody",
                hint="if the gateway shows another code, somebody stands between: use a ticket",
            )
        confirmed = True
        link.send(CodeConfirmed())

    try:
        async with asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(ask(), name="ask-owner")
            message = await _next(messages)
            if not isinstance(message, Approved) or not confirmed:
                raise ProtocolFault(f"the gateway sent a {type(message).__name__} out of turn")
            asking.cancel()
            return message
    except* AtollError as group:
        fault: AtollError = _first(group)
    raise fault


def _first(group: BaseExceptionGroup[AtollError]) -> AtollError:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


async def _next(messages: AsyncIterator[ControlMessage]) -> ControlMessage:
    """The gateway's next message.

    Raises:
        NotLetIn: It refuses, or is gone.
    """
    try:
        message = await anext(messages)
    except LinkLost as fault:
        raise NotLetIn(
            f"the gateway is gone: {fault.problem}", hint="once it is back: atoll join"
        ) from fault
    if isinstance(message, Refusal):
        raise NotLetIn(
            f"the gateway does not let this machine in: {peer_text(message.problem, 500)}",
            hint=peer_text(message.hint, 500),
        )
    return message
