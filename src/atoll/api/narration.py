"""The events of a stream: a function of its tokens, in the order in which they came.

So an event's number says everything about what came before it, for every choice,
and a stream that is told again from its journal has the same events.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from atoll.api import sse
from atoll.api.choices import Choice
from atoll.api.form import Form
from atoll.api.journal import Token
from atoll.api.params import Job
from atoll.api.replies import PromptDetails, Usage
from atoll.domain.generation import GenerateRequest, Sampled

BREATH = 64
"""Tokens that are told again before others get their turn."""


class Narration:
    """Tells a stream from its tokens.

    Args:
        job: What was asked.
        form: How its endpoint writes events.
        after: Events up to this number are counted, but not told.
    """

    def __init__(self, job: Job, form: Form, *, after: int = 0) -> None:
        self.choices = choices_of(job)
        self._job = job
        self._form = form
        self._after = after
        self._begun: set[int] = set()
        self.n_events = 0
        self._end: bytes | None = None

    @property
    def behind(self) -> bool:
        """Whether what is counted so far does not reach `after`."""
        return self.n_events < self._after

    def take(self, index: int, sampled: Sampled) -> bytes:
        """The events that a token of choice `index` brings; empty for none."""
        form, out = self._form, b""
        if index not in self._begun:
            self._begun.add(index)
            opening = form.opening(index)
            out = self._event(opening) if opening else b""
        delta = self.choices[index].take(sampled)
        if delta.text or delta.entries:
            out += self._event(form.delta(index, delta))
        if delta.finish is not None:
            out += self._event(form.closing(index, delta.finish))
        return out

    def end(self) -> bytes:
        """The events after the last token."""
        if self._end is None:
            self._end = b""
            if self._job.include_usage:
                usage = usage_of(self._job, self.choices)
                self._end = self._event(self._form.usage(usage))
            self._end += self._event(sse.DONE)
        return self._end

    def _event(self, data: bytes) -> bytes:
        self.n_events += 1
        return b"" if self.n_events <= self._after else sse.event(data, self.n_events)


async def catch_up(narration: Narration, tokens: deque[Token]) -> bytes:
    """Take the tokens whose events a client has; those after them are left.

    Returns:
        Further events of the token at which the client stopped reading.
    """
    n_taken, out = 0, b""
    while narration.behind and tokens and not out:
        token = tokens.popleft()
        out = narration.take(token.index, token.sampled)
        n_taken += 1
        if n_taken % BREATH == 0:
            await asyncio.sleep(0)
    return out


def choices_of(job: Job) -> list[Choice]:
    """The choices of a job, with nothing in them yet."""
    return [Choice(index, job.stops, logprobs=job.logprobs) for index in range(len(job.requests))]


def usage_of(job: Job, choices: Sequence[Choice]) -> Usage:
    """What the answer took."""
    n_sampled = sum(choice.n_tokens for choice in choices)
    n_prompt = job.prompt_tokens
    cached = min(n_prompt, sum(choice.cached for choice in choices))
    return Usage(n_prompt, n_sampled, n_prompt + n_sampled, PromptDetails(cached))


def what_is_left(job: Job, choices: Sequence[Choice]) -> dict[int, GenerateRequest]:
    """The generations that have not ended, each going on after what it has sampled."""
    return {
        choice.index: replace(job.requests[choice.index], sampled=tuple(choice.tokens))
        for choice in choices
        if choice.finish is None
    }
