"""Answers a request: runs its generations and sends what they yield, streamed or whole."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from starlette.types import Receive, Scope, Send

from atoll.api import sse
from atoll.api.backend import Backend
from atoll.api.choices import (
    Choice,
    Delta,
    Entry,
    first_cause,
    run_choices,
)
from atoll.api.client import ClientGone, watch_client
from atoll.api.errors import describe, error_json, note
from atoll.api.limits import Limits
from atoll.api.params import Job
from atoll.api.replies import PromptDetails, Usage
from atoll.domain.generation import FinishReason

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Finished:
    """One whole choice."""

    text: list[str] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    finish: FinishReason = "stop"


class Form(Protocol):
    """How an endpoint writes its answer; every method returns JSON."""

    def opening(self, index: int) -> bytes:
        """What the stream of a choice begins with; empty for nothing."""
        ...

    def delta(self, index: int, delta: Delta) -> bytes:
        """What a token added; `delta.finish` is left to `closing`."""
        ...

    def closing(self, index: int, finish: FinishReason) -> bytes:
        """What the stream of a choice ends with."""
        ...

    def usage(self, usage: Usage) -> bytes:
        """The last event of a stream whose client asked for usage."""
        ...

    def whole(self, choices: Sequence[Finished], usage: Usage) -> bytes:
        """The answer without streaming."""
        ...


class Answer:
    """An ASGI application that answers one request whose generations are set.

    Until the first token an error has its HTTP status; after it, an `error`
    event ends the stream. When the client hangs up or stops reading, every
    generation is closed at once.
    """

    def __init__(self, backend: Backend, job: Job, form: Form, limits: Limits) -> None:
        self._backend = backend
        self._job = job
        self._form = form
        self._limits = limits

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; returns silently when the client is gone."""
        began_s = time.monotonic()
        outcome = "failed"
        try:
            if self._job.stream:
                outcome = await self._stream(receive, send)
            else:
                await self._whole(receive, send)
                outcome = "done"
        except ClientGone:
            outcome = "client-gone"
        finally:
            log.info(
                "request.end id=%s outcome=%s choices=%d prompt_tokens=%d ms=%d",
                self._job.id,
                outcome,
                len(self._job.requests),
                self._job.prompt_tokens,
                (time.monotonic() - began_s) * 1000,
            )

    async def _whole(self, receive: Receive, send: Send) -> None:
        finished = [Finished() for _ in self._job.requests]

        async def collect(choice: Choice, delta: Delta) -> None:
            done = finished[choice.index]
            done.text.append(delta.text)
            done.entries.extend(delta.entries)
            if delta.finish is not None:
                done.finish = delta.finish

        try:
            async with asyncio.TaskGroup() as tasks:
                watch = tasks.create_task(watch_client(receive), name="watch-client")
                choices = await run_choices(self._backend, self._job, collect)
                watch.cancel()
        except ExceptionGroup as group:
            raise first_cause(group) from None
        body = self._form.whole(finished, self._usage(choices))
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            self._id_header(),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    async def _stream(self, receive: Receive, send: Send) -> str:
        events = sse.EventQueue(self._limits.queue_events)
        try:
            async with asyncio.TaskGroup() as tasks:
                watch = tasks.create_task(watch_client(receive), name="watch-client")
                writer = tasks.create_task(
                    sse.write_events(events, send, [*sse.HEADERS, self._id_header()], watch.cancel),
                    name="write-events",
                )
                outcome = await self._fill(events)
                await writer
        except ExceptionGroup as group:
            raise first_cause(group) from None
        return outcome

    async def _fill(self, events: sse.EventQueue) -> str:
        """Put the whole stream into `events`; the outcome for the log.

        Raises:
            Exception: What stopped the generations before the first token.
        """
        form = self._form
        begun: set[int] = set()

        async def deliver(choice: Choice, delta: Delta) -> None:
            out = b""
            if choice.index not in begun:
                begun.add(choice.index)
                opening = form.opening(choice.index)
                out = sse.event(opening) if opening else b""
            if delta.text or delta.entries:
                out += sse.event(form.delta(choice.index, delta))
            if delta.finish is not None:
                out += sse.event(form.closing(choice.index, delta.finish))
            if out:
                await events.put(out)

        try:
            choices = await run_choices(self._backend, self._job, deliver)
        except Exception as error:
            if not events.opened:
                raise
            note(error)
            await events.put(sse.error_event(error_json(describe(error).body)))
            await events.close()
            return "failed"
        if self._job.include_usage:
            await events.put(sse.event(form.usage(self._usage(choices))))
        await events.put(sse.DONE)
        await events.close()
        return "done"

    def _usage(self, choices: Sequence[Choice]) -> Usage:
        n_sampled = sum(choice.n_tokens for choice in choices)
        n_prompt = self._job.prompt_tokens
        cached = min(n_prompt, sum(choice.cached for choice in choices))
        return Usage(n_prompt, n_sampled, n_prompt + n_sampled, PromptDetails(cached))

    def _id_header(self) -> tuple[bytes, bytes]:
        return (b"x-request-id", self._job.id.encode())
