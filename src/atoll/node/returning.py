"""A node over several lives of its gateway: where that is gone, the node comes back to it.

It keeps its identity and what lies on its disk. Its stage ends with the gateway, and is
loaded anew by the plan of the next one.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from atoll.domain.errors import LinkFault, NotLetIn, ProtocolFault
from atoll.node.membership import Membership

log = logging.getLogger(__name__)

WAIT_S = 3600
FIRST_PAUSE_S = 0.2
PAUSE_MAX_S = 5.0
"""Pauses between attempts double up to this, and differ by half either way, so that the
nodes of a large ring do not all come at once."""


class Daemon(Protocol):
    """One life of a node."""

    async def run(self, membership: Membership) -> None:
        """Join, serve, and return when the gateway says goodbye."""
        ...


MakeDaemon = Callable[[Callable[[], None]], Daemon]
"""Makes a daemon that calls what it is given once the gateway has let it in."""


async def run_returning(
    membership: Membership, make: MakeDaemon, *, wait_s: float, tell: Callable[[str], None]
) -> None:
    """Be a node until the gateway says goodbye.

    Args:
        membership: The gateway.
        make: Makes the node, anew for each attempt.
        wait_s: How long to try to come back to a gateway that is gone; 0: not at all.
        tell: Takes one line at a time for the owner to read.

    Raises:
        LinkFault: The node was not let in, or its gateway stayed away.
        AtollError: What else ended it.
    """
    loop = asyncio.get_running_loop()
    is_in = knows_us = False
    until_s = pause_s = 0.0

    def let_in() -> None:
        nonlocal is_in, knows_us
        is_in = knows_us = True

    while True:
        try:
            await make(let_in).run(membership)
        except LinkFault as fault:
            task, now_s = asyncio.current_task(), loop.time()
            if task is not None and task.cancelling():
                # Asked to stop just when the gateway went: a group of tasks raises the fault alone.
                raise asyncio.CancelledError from fault
            if not knows_us or wait_s <= 0 or isinstance(fault, NotLetIn | ProtocolFault):
                raise
            if is_in:
                is_in, until_s, pause_s = False, now_s + wait_s, FIRST_PAUSE_S
                tell(f"{fault.problem}; trying to come back to it for {wait_s:g} s")
            elif now_s >= until_s:
                raise LinkFault(
                    f"the gateway did not come back within {wait_s:g} s: {fault.problem}",
                    hint="once it is back: atoll join",
                ) from fault
            log.info("node.away pause_s=%g problem=%s", pause_s, fault.problem)
        else:
            return
        # The secret of a ticket was for the first time.
        membership = replace(membership, secret="")
        jitter = 0.5 + secrets.randbelow(1000) / 1000
        await asyncio.sleep(min(pause_s * jitter, max(0.0, until_s - now_s)))
        pause_s = min(2 * pause_s, PAUSE_MAX_S)
