"""One request's tokens, over as many rings as it takes.

A ring that breaks takes its sessions with it. Each begins again on the next ring from its
tokens: these are computed as a prompt is, and the sampler goes on behind them. What the
client has got is never sampled again.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace
from typing import Protocol

from atoll.domain.errors import AtollError, EngineFault, RingDown
from atoll.domain.generation import GenerateRequest, Sampled
from atoll.domain.ids import SessionId
from atoll.gateway.mailbox import Mailbox

log = logging.getLogger(__name__)

SESSION_BITS = 62
LOSSES_MAX = 4
"""Rings that a session may lose in a row without a token in between: it may be what breaks
them, and others are not to suffer for it."""
FAULTS_MAX = 1
"""The same for computations of it that failed while the ring went on."""


class Driver(Protocol):
    """A ring that serves."""

    def submit(
        self, session: SessionId, request: GenerateRequest, mailbox: Mailbox, *, again: bool
    ) -> None:
        """Begin a session."""

    def cancel(self, session: SessionId, reason: str) -> None:
        """End a session."""


class Generation:
    """Drives one request.

    Args:
        request: What is asked; perhaps begun before.
        find: The ring that it goes to next; waits for one, within bounds.
    """

    def __init__(
        self, request: GenerateRequest, find: Callable[[GenerateRequest], Awaitable[Driver]]
    ) -> None:
        self._request = request
        self._find = find
        self._sampled = list(request.sampled)
        self._again = bool(request.sampled)
        self._losses = self._faults = 0
        self._cause: AtollError | None = None

    async def run(self) -> AsyncGenerator[Sampled, None]:
        """Yield the tokens that follow, to the last.

        Raises:
            RingDown: No ring came back in time, or it lost too many.
            AtollError: It cannot be served.
        """
        while True:
            driver = await self._next_ring()
            session, mailbox = SessionId(secrets.randbits(SESSION_BITS)), Mailbox()
            try:
                driver.submit(session, self._request, mailbox, again=self._again)
                while True:
                    sampled = await mailbox.get()
                    yield self._note(sampled)
                    if sampled.finish is not None:
                        return
            except (RingDown, EngineFault) as error:
                self._lost(error)
            finally:
                driver.cancel(session, "the client went away")

    async def _next_ring(self) -> Driver:
        try:
            return await self._find(self._request)
        except RingDown as error:
            if self._cause is None:
                raise
            problem = f"{self._cause.problem}; {error.problem}"
            raise RingDown(problem, hint=error.hint) from error

    def _note(self, sampled: Sampled) -> Sampled:
        """A token came: from now on the session would begin behind it."""
        if self._again:
            # What an earlier ring had computed is no prompt of the client's.
            sampled = replace(sampled, cached=0) if sampled.cached else sampled
        self._again = True
        self._losses = self._faults = 0
        self._sampled.append(sampled.token)
        return sampled

    def _lost(self, error: RingDown | EngineFault) -> None:
        """The ring is gone, or gave the session up; go on, or raise `error`."""
        self._again, self._cause = True, error
        if isinstance(error, RingDown):
            self._losses += 1
        else:
            self._faults += 1
        if self._losses >= LOSSES_MAX or self._faults > FAULTS_MAX:
            raise error
        self._request = replace(self._request, sampled=tuple(self._sampled))
        log.info("generation.again tokens=%d problem=%s", len(self._sampled), error.problem)
