"""One choice of a request: sampled tokens in, text and log-probabilities out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from atoll.api.backend import Backend
from atoll.api.client import ClientGone
from atoll.api.text import TextAssembler
from atoll.domain.generation import FinishReason, GenerateRequest, Sampled


@dataclass(frozen=True, slots=True)
class Entry:
    """A token that is shown, and the character of the answer at which it starts."""

    sampled: Sampled
    start: int


@dataclass(frozen=True, slots=True)
class Delta:
    """What one token adds to the answer; perhaps nothing yet."""

    text: str
    entries: tuple[Entry, ...] = ()
    finish: FinishReason | None = None


class Choice:
    """Assembles the answer of one generation.

    A token's log-probability is held back with its text: what a stop string
    cuts off is never shown in either.
    """

    def __init__(self, index: int, stops: Sequence[str], *, logprobs: bool) -> None:
        self.index = index
        self.cached = 0
        self.tokens: list[int] = []
        self.finish: FinishReason | None = None
        self._text = TextAssembler(stops)
        self._logprobs = logprobs
        self._waiting: list[Entry] = []

    @property
    def n_tokens(self) -> int:
        """How many tokens it has."""
        return len(self.tokens)

    def take(self, sampled: Sampled) -> Delta:
        """Add one token. The last `Delta` has `finish`."""
        if not self.tokens:
            # A generation that goes on finds more computed than the prompt.
            self.cached = sampled.cached
        self.tokens.append(sampled.token)
        # The end-of-generation token is not shown, so it has no entry.
        if self._logprobs and (sampled.piece or sampled.finish != "stop"):
            self._waiting.append(Entry(sampled, self._text.decoded))
        text = self._text.feed(sampled.piece)
        if sampled.finish is not None and not self._text.stopped:
            text += self._text.finish()
        # The end may itself complete a stop string: with U+FFFD.
        self.finish = "stop" if self._text.stopped else sampled.finish
        return Delta(text, self._release(), self.finish)

    def _release(self) -> tuple[Entry, ...]:
        """The waiting tokens whose first character has been shown."""
        if not self._waiting:
            return ()
        if self.finish is not None and not self._text.stopped:
            ready = len(self._waiting)
        else:
            shown = self._text.shown
            ready = sum(entry.start < shown for entry in self._waiting)
        released = tuple(self._waiting[:ready])
        del self._waiting[:ready]
        return released


Deliver = Callable[[int, Sampled], Awaitable[bool]]
"""Takes a token of a choice; says whether that was the choice's last."""


async def run_choices(
    backend: Backend, requests: Mapping[int, GenerateRequest], deliver: Deliver
) -> None:
    """Run generations at once; `deliver` gets every token of each choice in order.

    The first failure cancels the other generations.

    Raises:
        AtollError: What the ring said.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            for index, request in requests.items():
                tasks.create_task(
                    _run_choice(backend, index, request, deliver), name=f"choice-{index}"
                )
    except ExceptionGroup as group:
        raise first_cause(group) from None


async def _run_choice(
    backend: Backend, index: int, request: GenerateRequest, deliver: Deliver
) -> None:
    async with aclosing(backend.generate(request)) as tokens:
        async for sampled in tokens:
            if await deliver(index, sampled):
                return
    raise RuntimeError("a generation ended without a finish reason")


def first_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """One exception to report for a group: a client that left explains all others."""
    leaves: list[BaseException] = []
    stack: list[BaseException] = [group]
    while stack:
        error = stack.pop(0)
        if isinstance(error, BaseExceptionGroup):
            stack.extend(error.exceptions)
        else:
            leaves.append(error)
    return next((leaf for leaf in leaves if isinstance(leaf, ClientGone)), leaves[0])
