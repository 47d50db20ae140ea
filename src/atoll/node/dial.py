"""Dialling the gateway: at each address that it is known by, until its key answers."""

from __future__ import annotations

import asyncio

from atoll.domain.control import Leave, Refusal
from atoll.domain.errors import LinkFault
from atoll.net.address import is_loopback
from atoll.net.identity import Identity
from atoll.net.link import ControlInbox, ControlLink
from atoll.net.transport import Transport, Way, open_transport
from atoll.node.membership import Membership

ANSWER_S = 15.0


async def dial_gateway(membership: Membership, transport: Transport) -> ControlLink:
    """A control link to the gateway; nothing is sent to anybody who holds another key.

    Raises:
        LinkFault: None of its addresses led to it; the reason of the last one.
    """
    fault = LinkFault("the gateway is known by no address", hint="join again with a ticket")
    for way in membership.ways:
        try:
            return await transport.dial_control(way, expected=membership.gateway)
        except LinkFault as found:
            fault = found
    raise fault


async def part_for_good(membership: Membership, identity: Identity) -> None:
    """Ask the gateway to forget this node.

    Raises:
        LinkFault: It cannot be reached, or did not answer.
    """
    relays = [membership.relay] if membership.relay else []
    async with open_transport(identity, way=way_for(membership), relays=relays) as transport:
        link = await dial_gateway(membership, transport)
        await _say_goodbye(link)


def way_for(membership: Membership, wish: Way = "auto") -> Way:
    """The wish, except that nothing but TCP is needed to a gateway on this machine."""
    here = is_here(membership) and not membership.relay
    return "tls" if wish == "auto" and here else wish


def is_here(membership: Membership) -> bool:
    """Whether the gateway runs on this machine, for this machine."""
    return all(is_loopback(place.host) for place in membership.addresses)


async def _say_goodbye(link: ControlLink) -> None:
    try:
        inbox = ControlInbox(link)
        link.send(Leave("for good"))
        async with asyncio.timeout(ANSWER_S):
            async for message in inbox:
                if isinstance(message, Leave):
                    return
                if isinstance(message, Refusal):
                    raise LinkFault(message.problem, hint=message.hint)
    except TimeoutError:
        raise LinkFault(f"the gateway did not answer within {ANSWER_S:g} s") from None
    finally:
        link.close()
        await link.wait_closed()
