"""Control links that have not introduced themselves yet: few, and not for long."""

from __future__ import annotations

import asyncio

from atoll.domain.errors import LinkFault
from atoll.net.link import ControlLink

STRANGERS_MAX = 64
"""Control links that may stand without having introduced themselves."""
STRANGERS_PER_HOST_MAX = 16
"""Of these, how many from one address, so that one host cannot take all places."""
INTRODUCTION_S = 10.0
"""How long a stranger may take to introduce itself."""


class Strangers:
    """Those links, each with the clock that ends it."""

    def __init__(self) -> None:
        self._timers: dict[ControlLink, asyncio.TimerHandle] = {}

    def add(self, link: ControlLink) -> bool:
        """Start a link's clock; False if there are too many: then it is not one of them."""
        same_host = sum(other.peer_host == link.peer_host for other in self._timers)
        if same_host >= STRANGERS_PER_HOST_MAX or len(self._timers) >= STRANGERS_MAX:
            return False
        self._timers[link] = asyncio.get_running_loop().call_later(
            INTRODUCTION_S, link.close, LinkFault("no introduction came in time")
        )
        return True

    def forget(self, link: ControlLink) -> None:
        """It has introduced itself, or is gone."""
        timer = self._timers.pop(link, None)
        if timer is not None:
            timer.cancel()

    def close(self, reason: LinkFault) -> None:
        """End all of them."""
        for link in list(self._timers):
            self.forget(link)
            link.close(reason)
