"""Answers a request: runs its generations and sends what they yield, streamed or whole."""

from __future__ import annotations

import asyncio
import logging
import time

from starlette.types import Receive, Scope, Send

from atoll.api import sse
from atoll.api.backend import Backend, Health
from atoll.api.choices import first_cause, run_choices
from atoll.api.client import ClientGone, watch_client
from atoll.api.errors import ApiError, describe, error_json, note
from atoll.api.form import Finished, Form
from atoll.api.held import Held, TakenOver
from atoll.api.journal import Token
from atoll.api.limits import Limits
from atoll.api.narration import BREATH, Narration, catch_up, choices_of, usage_of, what_is_left
from atoll.api.params import Job
from atoll.domain.errors import BadRequest, RingDown
from atoll.domain.generation import Sampled

log = logging.getLogger(__name__)

STREAM_HEADER = b"x-stream-id"
POLL_S = 0.1


class Answer:
    """An ASGI application that answers one request whose generations are set.

    Until the first token an error has its HTTP status; after it, an `error`
    event ends the stream. When the client hangs up or stops reading, every
    generation is closed at once; what came until then is kept, if `held` does.

    Args:
        backend: The ring.
        job: The generations.
        form: How they are written.
        limits: For this request.
        held: The kept stream, with the tokens of earlier requests; None: it is not kept.
        stream: Whether to answer in events; None: as `job` says.
        after: How many events the client has.
    """

    def __init__(
        self,
        backend: Backend,
        job: Job,
        form: Form,
        limits: Limits,
        *,
        held: Held | None = None,
        stream: bool | None = None,
        after: int = 0,
    ) -> None:
        self._backend = backend
        self._job = job
        self._form = form
        self._limits = limits
        self._held = held
        self._streamed = job.stream if stream is None else stream
        self._goes_on = held is not None and held.goes_on
        self._narration = Narration(job, form, after=after)
        self._n_noted = 0

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; returns silently when the client is gone."""
        began_s = time.monotonic()
        outcome = "failed"
        try:
            if self._streamed:
                outcome = await self._stream(receive, send)
            else:
                await self._whole(receive, send)
                outcome = "done"
        except ClientGone:
            outcome = "client-gone"
            self._drop_if(self._held is not None and not self._held.is_retried)
        except TakenOver:
            outcome = "taken-over"
            raise
        except Exception as error:
            self._drop_if(True, error)
            raise
        finally:
            if self._held is not None:
                self._held.release()
            log.info(
                "request.end id=%s outcome=%s choices=%d prompt_tokens=%d ms=%d",
                self._job.id,
                outcome,
                len(self._job.requests),
                self._job.prompt_tokens,
                (time.monotonic() - began_s) * 1000,
            )

    def _drop_if(self, fruitless: bool, error: Exception | None = None) -> None:
        """Keep no stream of which nothing came, or that can never go on."""
        held = self._held
        if held is None or held.released.is_set():
            return
        if isinstance(error, BadRequest) or (fruitless and not held.goes_on and not self._n_noted):
            held.drop()

    # Whole

    async def _whole(self, receive: Receive, send: Send) -> None:
        job, held = self._job, self._held
        choices = choices_of(job)
        finished = [Finished() for _ in job.requests]

        def add(index: int, sampled: Sampled) -> bool:
            delta = choices[index].take(sampled)
            finished[index].add(delta)
            return delta.finish is not None

        async def collect(index: int, sampled: Sampled) -> bool:
            self._note(index, sampled)
            return add(index, sampled)

        while held is not None and held.tokens:
            token = held.tokens.popleft()
            add(token.index, token.sampled)
            if len(held.tokens) % BREATH == 0:
                await asyncio.sleep(0)
        try:
            async with asyncio.TaskGroup() as tasks:
                guards = self._guards(tasks, receive)
                if left := what_is_left(job, choices):
                    await self._wait_ring()
                    await run_choices(self._backend, left, collect)
                for guard in guards:
                    guard.cancel()
        except ExceptionGroup as group:
            raise first_cause(group) from None
        if held is not None:
            held.end()
        body = self._form.whole(finished, usage_of(job, choices))
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            *self._headers(),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    # Streamed

    async def _stream(self, receive: Receive, send: Send) -> str:
        edge = await self._catch_up()
        if self._goes_on and not edge and self._is_read:
            await send({"type": "http.response.start", "status": 204, "headers": self._headers()})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return "done"
        events = sse.EventQueue(self._limits.queue_events)
        try:
            async with asyncio.TaskGroup() as tasks:
                guards = self._guards(tasks, receive)
                guards.append(tasks.create_task(self._comment(events), name="comment"))

                def ending() -> None:
                    for guard in guards:
                        guard.cancel()

                headers = [*sse.HEADERS, *self._headers()]
                writer = tasks.create_task(
                    sse.write_events(events, send, headers, ending), name="write-events"
                )
                outcome = await self._fill(events, edge)
                await writer
        except ExceptionGroup as group:
            cause = first_cause(group)
            if not (isinstance(cause, TakenOver) and events.begun):
                raise cause from None
        else:
            return outcome
        assert self._held is not None
        # At once: who takes it over waits, and the old client may have stopped reading.
        self._held.release()
        farewell = sse.error_event(error_json(describe(cause).body))
        await send({"type": "http.response.body", "body": farewell, "more_body": False})
        return "taken-over"

    async def _catch_up(self) -> bytes:
        """Pass over the events that the client has; returns the next ones, if any.

        Raises:
            ApiError: 409: it has events that are not known here.
        """
        if self._held is None:
            return b""
        narration = self._narration
        edge = await catch_up(narration, self._held.tokens)
        if narration.behind:
            left = what_is_left(self._job, narration.choices)
            if not left:
                narration.end()
            # A lone generation gives the lost ones again; of several their order is lost too.
            if narration.behind and (not left or len(self._job.requests) > 1):
                raise stream_behind()
        return edge

    @property
    def _is_read(self) -> bool:
        """Whether the client has everything, with the end."""
        narration = self._narration
        if self._held is not None and self._held.tokens:
            return False
        return not what_is_left(self._job, narration.choices) and not narration.end()

    async def _fill(self, events: sse.EventQueue, edge: bytes) -> str:
        """Put the whole stream into `events`; the outcome for the log.

        Raises:
            Exception: What stopped the generations before the first token.
        """
        narration, held = self._narration, self._held

        async def put(out: bytes) -> None:
            if out:
                await events.put(out)

        async def deliver(index: int, sampled: Sampled) -> bool:
            self._note(index, sampled)
            await put(narration.take(index, sampled))
            return narration.choices[index].finish is not None

        try:
            if self._goes_on:
                # The status goes out at once: a ring may be long in coming.
                await events.put(sse.GOES_ON + edge)
            while held is not None and held.tokens:
                token = held.tokens.popleft()
                await put(narration.take(token.index, token.sampled))
            if left := what_is_left(self._job, narration.choices):
                await self._wait_ring()
                await run_choices(self._backend, left, deliver)
        except Exception as error:
            if not events.opened:
                raise
            note(error)
            self._drop_if(False, error)
            await events.put(sse.error_event(error_json(describe(error).body)))
            await events.close()
            return "failed"
        if held is not None:
            held.end()
        await put(narration.end())
        await events.close()
        return "done"

    # Both

    def _note(self, index: int, sampled: Sampled) -> None:
        self._n_noted += 1
        if self._held is not None:
            self._held.note(Token.of(index, sampled))

    def _guards(self, tasks: asyncio.TaskGroup, receive: Receive) -> list[asyncio.Task[None]]:
        """Tasks that end the answer when there is nobody to tell it to."""
        guards = [tasks.create_task(watch_client(receive), name="watch-client")]
        if self._held is not None:
            watch = self._held.wait_taken()
            guards.append(tasks.create_task(watch, name="watch-takeover"))
        return guards

    async def _wait_ring(self) -> None:
        """For an answer that goes on: wait until a generation could start.

        Raises:
            RingDown: None could in time.
        """
        if not self._goes_on:
            return
        try:
            async with asyncio.timeout(self._limits.ring_wait_s):
                # Asking costs nothing, and no backend tells when it changes.
                while not _could_start(self._backend.health()):  # noqa: ASYNC110
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            reason = self._backend.health().reason or "the ring is not up"
            raise RingDown(reason, hint="try again in a moment") from None

    async def _comment(self, events: sse.EventQueue) -> None:
        """Show now and then that the connection stands, once its status is told."""
        while True:
            n_events = self._narration.n_events
            await asyncio.sleep(self._limits.comment_s)
            begun = self._goes_on or n_events
            if begun and n_events == self._narration.n_events and events.is_empty:
                ready = self._backend.health().ready
                await events.put(sse.NO_TOKEN_YET if ready else sse.WAITING)

    def _headers(self) -> list[tuple[bytes, bytes]]:
        headers = [(b"x-request-id", self._job.id.encode())]
        if self._held is not None and self._held.is_kept:
            headers.append((STREAM_HEADER, self._held.stream.encode()))
        return headers


def _could_start(health: Health) -> bool:
    return health.ready or health.holds


def stream_behind() -> ApiError:
    """A client has read on where we lost what we had sent."""
    return ApiError(
        "fewer events of this stream are known here than you have",
        hint="the last ones before a loss of power may be lost; ask anew",
        status=409,
        code="stream_behind",
    )
