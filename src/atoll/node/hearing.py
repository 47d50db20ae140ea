"""What every node does with what its gateway says: heed it until the gateway is done or gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from atoll.domain.control import ControlMessage, Refusal
from atoll.domain.errors import AtollError, LinkFault, NotLetIn, ProtocolFault
from atoll.net.link import ControlInbox, LinkLost

JOIN_S = 15.0
"""How long the gateway may take to answer an introduction."""


async def hear_gateway(inbox: ControlInbox, obey: Callable[[ControlMessage], bool]) -> None:
    """Take the gateway's messages until `obey` says that one was the last.

    Raises:
        LinkFault: It does not answer the introduction, or is gone.
    """
    try:
        async with asyncio.timeout(JOIN_S) as limit:
            async for message in inbox:
                limit.reschedule(None)
                if not obey(message):
                    return
    except TimeoutError:
        raise LinkFault(
            f"the gateway did not answer within {JOIN_S:g} s",
            hint="is it overloaded? try again with: atoll join",
        ) from None
    except LinkLost as fault:
        raise LinkFault(
            f"the gateway is gone: {fault.problem}",
            hint="once it is back: atoll join",
        ) from fault


def protest(message: ControlMessage) -> AtollError:
    """What a message means that asks nothing of us: we are refused, or it is none of ours."""
    match message:
        case Refusal(problem, hint, final):
            kind = NotLetIn if final else LinkFault
            return kind(f"the gateway refuses this node: {problem}", hint=hint)
        case _:
            return ProtocolFault(f"the gateway sent a {type(message).__name__}")
