"""Handler of one of a ring's two data links at the gateway."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from atoll.domain.errors import LinkFault
from atoll.domain.wire import DataMessage
from atoll.net.link import DataLink, UnusableFrame


class Hearer(Protocol):
    """Whoever drives the ring."""

    def unusable(self, side: str, fault: UnusableFrame) -> None:
        """A frame that is whole but wrong."""

    def link_closed(self, side: str, link: DataLink | None, reason: LinkFault | None) -> None:
        """A data link is gone."""


class RingLink:
    """Tells the driver what comes on one side.

    Args:
        driver: Whom to tell.
        side: "first" or "last".
        take: Takes its frames.
        link: Names the link where it may be replaced.
    """

    def __init__(
        self,
        driver: Hearer,
        side: str,
        take: Callable[[DataMessage, bytes], None],
        link: DataLink | None = None,
    ) -> None:
        self._driver, self._side, self._take, self._link = driver, side, take, link

    def on_frame(self, message: DataMessage, payload: bytes) -> None:
        """A frame came."""
        self._take(message, payload)

    def on_unusable(self, fault: UnusableFrame) -> None:
        """A frame came that is of no use."""
        self._driver.unusable(self._side, fault)

    def on_batch_end(self) -> None:
        """Nothing is gathered here."""

    def on_closed(self, reason: LinkFault | None) -> None:
        """The link is gone."""
        self._driver.link_closed(self._side, self._link, reason)
