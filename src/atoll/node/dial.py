"""Dialling the gateway: at each address that it is known by, until its key answers."""

from __future__ import annotations

import asyncio

from atoll.domain.control import Leave, Refusal
from atoll.domain.errors import LinkFault
from atoll.net.identity import Identity
from atoll.net.link import ControlInbox, ControlLink, LinkSettings
from atoll.net.tls import dial_control
from atoll.node.membership import Membership

ANSWER_S = 15.0


async def dial_gateway(
    membership: Membership, identity: Identity, settings: LinkSettings
) -> ControlLink:
    """A control link to the gateway; nothing is sent to anybody who holds another key.

    Raises:
        LinkFault: None of its addresses led to it; the reason of the last one.
    """
    fault = LinkFault("the gateway is known by no address", hint="join again with a ticket")
    for address in membership.addresses:
        try:
            return await dial_control(
                address.host,
                address.port,
                expected=membership.gateway,
                identity=identity,
                settings=settings,
            )
        except LinkFault as found:
            fault = found
    raise fault


async def part_for_good(membership: Membership, identity: Identity) -> None:
    """Ask the gateway to forget this node.

    Raises:
        LinkFault: It cannot be reached, or did not answer.
    """
    link = await dial_gateway(membership, identity, LinkSettings())
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
