"""Handlers of a stage's two data links."""

from __future__ import annotations

from typing import Protocol

from atoll.domain.errors import LinkFault
from atoll.domain.wire import DataMessage
from atoll.net.link import DataLink, UnusableFrame


class Hearer(Protocol):
    """Whoever drives the stage."""

    def is_current(self, link: DataLink) -> bool:
        """Whether a link is one of the two that count."""
        ...

    def from_upstream(self, message: DataMessage, payload: bytes) -> None:
        """A frame of the upstream neighbour."""

    def from_downstream(self, message: DataMessage) -> None:
        """A frame of the downstream neighbour."""

    def unusable(self, fault: UnusableFrame) -> None:
        """A frame of the upstream that is whole but wrong."""

    def link_closed(self, side: str, reason: LinkFault | None) -> None:
        """One of the links is gone."""


class Upstream:
    """The upstream link's handler."""

    def __init__(self, driver: Hearer, link: DataLink) -> None:
        self._driver, self._link = driver, link

    def on_frame(self, message: DataMessage, payload: bytes) -> None:
        """A frame came."""
        self._driver.from_upstream(message, payload)

    def on_unusable(self, fault: UnusableFrame) -> None:
        """A frame came that is of no use."""
        self._driver.unusable(fault)

    def on_batch_end(self) -> None:
        """Nothing is gathered here."""

    def on_closed(self, reason: LinkFault | None) -> None:
        """The link is gone."""
        if self._driver.is_current(self._link):
            self._driver.link_closed("upstream", reason)


class Downstream:
    """The downstream link's handler."""

    def __init__(self, driver: Hearer, link: DataLink) -> None:
        self._driver, self._link = driver, link

    def on_frame(self, message: DataMessage, payload: bytes) -> None:
        """A frame came."""
        del payload  # what the downstream may say carries none
        self._driver.from_downstream(message)

    def on_unusable(self, fault: UnusableFrame) -> None:
        """A frame came that is of no use."""
        raise fault

    def on_batch_end(self) -> None:
        """Nothing is gathered here."""

    def on_closed(self, reason: LinkFault | None) -> None:
        """The link is gone."""
        if self._driver.is_current(self._link):
            self._driver.link_closed("downstream", reason)
