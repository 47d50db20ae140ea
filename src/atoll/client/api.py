"""An HTTP client for OpenAI-compatible APIs and for what Atoll adds to them."""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TypeVar

import httpx
import msgspec

from atoll.client.endpoint import Endpoint
from atoll.client.replies import Chunk, ErrorReply, HealthReply, ModelList, TokenEntry, Usage
from atoll.client.resuming import PASSING, ApiFault, Place, events_of
from atoll.client.sse import Event, events, lines_of
from atoll.domain.errors import AtollError
from atoll.gateway.status import GatewayStatus

__all__ = ["ApiClient", "ApiFault", "ChatMessage", "ChatOptions", "Part"]

log = logging.getLogger(__name__)

CONNECT_S = 10.0
ANSWER_S = 120.0
"""Longest silence of a server, which may have a long prompt to read first."""
PASSING_CODES = frozenset({"ring_down", "overloaded"})
"""Errors in the middle of an answer after which it may go on a little later."""
BODY_BYTES_MAX = 8 * 1024 * 1024

Reply = TypeVar("Reply")


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message; `role` is "system", "user" or "assistant"."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Part:
    """What one event of an answer adds."""

    text: str = ""
    tokens: tuple[TokenEntry, ...] = ()
    finish: str | None = None
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """Fields of a chat request beside its messages; None leaves one out."""

    max_tokens: int | None = None
    temperature: float | None = None
    seed: int | None = None
    extra: Mapping[str, object] = field(default_factory=dict)

    def body(self) -> dict[str, object]:
        """As JSON fields."""
        given = {
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "seed": self.seed,
            **self.extra,
        }
        return {name: value for name, value in given.items() if value is not None}


class ApiClient:
    """Talks to one endpoint. Use it as an async context manager.

    A streamed chat whose connection breaks is gone on with, where the server keeps streams.

    Args:
        endpoint: Whom to talk to.
        silence_s: How long the server may say nothing.
        renew: Says where the server is by now; a gateway of this machine has another key
            after each start. None: where it was.
        tell: Takes a line when a connection broke.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        silence_s: float = ANSWER_S,
        renew: Callable[[], Endpoint] | None = None,
        tell: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self.endpoint = endpoint
        self._silence_s, self._renew, self._tell = silence_s, renew, tell
        self._http = self._open(endpoint)

    def _open(self, endpoint: Endpoint) -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {endpoint.key}"} if endpoint.key else {}
        try:
            return httpx.AsyncClient(
                base_url=endpoint.url,
                headers=headers,
                timeout=httpx.Timeout(self._silence_s, connect=CONNECT_S),
                # No bound: that of the default, 100, would hold back requests unnoticed.
                limits=httpx.Limits(),
                verify=endpoint.tls(),
                trust_env=not endpoint.is_local,
            )
        except (OSError, ssl.SSLError) as error:
            raise ApiFault(
                f"the certificate {endpoint.certificate} cannot be used: {error}",
                hint="name the gateway with --url",
            ) from error

    async def _find_again(self) -> None:
        """Talk to where the server is by now."""
        if self._renew is None:
            return
        try:
            found = self._renew()
            if found == self.endpoint:
                return
            opened = self._open(found)
        except AtollError as error:
            log.info("client.not_found_again problem=%s", error.problem)
            return
        old, self._http, self.endpoint = self._http, opened, found
        await old.aclose()

    async def __aenter__(self) -> ApiClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def health(self) -> HealthReply:
        """Whether a generation could start now, and if not, why.

        Raises:
            ApiFault: There is no gateway.
        """
        async with self._send("GET", "/health") as response:
            return _decode(await _body(response), HealthReply, self.endpoint.url)

    async def models(self) -> tuple[str, ...]:
        """Names of the served models.

        Raises:
            ApiFault: The request failed.
        """
        found = await self._get("/v1/models", ModelList)
        return tuple(entry.id for entry in found.data)

    async def status(self) -> GatewayStatus:
        """The ring in numbers.

        Raises:
            ApiFault: The request failed.
        """
        return await self._get("/status", GatewayStatus)

    async def chat(
        self, model: str, messages: Sequence[ChatMessage], options: ChatOptions | None = None
    ) -> AsyncGenerator[Part, None]:
        """Stream an answer; leaving the iteration early cancels it at the server.

        Raises:
            ApiFault: The request was refused, or the answer ended with an error
                or without an end.
        """
        body = {
            "model": model,
            "messages": [{"role": m.role, "content": m.content} for m in messages],
            "stream": True,
            "stream_options": {"include_usage": True},
            **(options or ChatOptions()).body(),
        }

        def read(place: Place) -> AsyncGenerator[Event, None]:
            if not place.stream:
                return self._events(place, "POST", "/v1/chat/completions", json=body)
            return self._events(
                place,
                "GET",
                f"/v1/streams/{place.stream}",
                headers={"last-event-id": place.last} if place.last else {},
            )

        # Where the key may be another by now, a refused one is no refusal.
        passing = PASSING if self._renew is None else PASSING | {httpx.codes.UNAUTHORIZED}
        async with aclosing(
            events_of(read, passing=passing, renew=self._find_again, tell=self._tell)
        ) as told:
            async for event in told:
                if event.data == "[DONE]":
                    return
                chunk = _decode(event.data.encode(), Chunk, self.endpoint.url)
                if chunk.error is not None:
                    raise ApiFault(f"the answer broke off: {chunk.error.message}")
                yield _part(chunk)

    async def _events(
        self, place: Place, method: str, path: str, **request: Any
    ) -> AsyncGenerator[Event, None]:
        """The events of one connection."""
        async with self._send(method, path, **request) as response:
            if response.status_code != httpx.codes.OK:
                raise _refusal(response, await _body(response))
            place.stream = response.headers.get("x-stream-id", place.stream)
            async for event in events(lines_of(response.aiter_bytes())):
                if event.kind == "error" and place.stream:
                    self._raise_passing(event)
                yield event

    def _raise_passing(self, event: Event) -> None:
        """Raise what a later attempt may not meet; other errors are the answer's end."""
        error = _decode(event.data.encode(), ErrorReply, self.endpoint.url).error
        if error.code in PASSING_CODES:
            raise ApiFault(
                f"the answer broke off: {error.message}", status=httpx.codes.SERVICE_UNAVAILABLE
            )

    async def completion_bytes(
        self, body: Mapping[str, object], begun: Callable[[], None]
    ) -> AsyncGenerator[bytes, None]:
        """The events of a streamed text completion, as they come and not decoded.

        For those who note when each came. Every request has a connection of its
        own, since llama.cpp's server closes one after a stream without saying
        so. Leaving the iteration early cancels the answer at the server.

        Args:
            body: Fields of the request, except for those about streaming.
            begun: Called when the connection stands and the request goes out.

        Raises:
            ApiFault: The request was refused, or the connection broke.
        """

        async def trace(event: str, _details: object) -> None:
            if event == "http11.send_request_headers.started":
                begun()

        asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
        async with self._send(
            "POST",
            "/v1/completions",
            json=asked,
            headers={"connection": "close"},
            extensions={"trace": trace},
        ) as response:
            if response.status_code != httpx.codes.OK:
                raise _refusal(response, await _body(response))
            async for piece in response.aiter_bytes():
                yield piece

    async def _get(self, path: str, kind: type[Reply]) -> Reply:
        async with self._send("GET", path) as response:
            body = await _body(response)
            if response.status_code != httpx.codes.OK:
                raise _refusal(response, body)
            return _decode(body, kind, self.endpoint.url)

    @asynccontextmanager
    async def _send(self, method: str, path: str, **request: Any) -> AsyncIterator[httpx.Response]:
        try:
            async with self._http.stream(method, path, **request) as response:
                yield response
        except httpx.ConnectError as error:
            raise ApiFault(
                f"cannot reach {self.endpoint.url}: {error or 'no answer'}",
                hint="is the gateway running there? 'atoll serve' starts one",
            ) from error
        except httpx.TimeoutException as error:
            raise ApiFault(
                f"{self.endpoint.url} did not answer in time", hint="try again"
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ApiFault(
                f"the connection to {self.endpoint.url} failed: {error or type(error).__name__}",
                hint="try again",
            ) from error


def _part(chunk: Chunk) -> Part:
    if not chunk.choices:
        return Part(usage=chunk.usage)
    choice = chunk.choices[0]
    tokens = choice.logprobs.content if choice.logprobs else None
    return Part(choice.delta.content or "", tokens or (), choice.finish_reason, chunk.usage)


async def _body(response: httpx.Response) -> bytes:
    body = bytearray()
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > BODY_BYTES_MAX:
            raise ApiFault(
                f"the server's answer is longer than {BODY_BYTES_MAX} bytes",
                hint="check the address",
            )
    return bytes(body)


def _decode(body: bytes, kind: type[Reply], url: str) -> Reply:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ApiFault(
            f"{url} answers what an Atoll gateway would not: {error}",
            hint="check that the address is that of an OpenAI-compatible API",
        ) from error


def _refusal(response: httpx.Response, body: bytes) -> ApiFault:
    """The server's own words where it sent some."""
    status = response.status_code
    try:
        problem = msgspec.json.decode(body, type=ErrorReply).error.message
    except (msgspec.MsgspecError, UnicodeDecodeError):
        problem = f"the server answers {status} {response.reason_phrase}"
    hint = ""
    if status == httpx.codes.UNAUTHORIZED:
        hint = "make a key with 'atoll keys create NAME' and set ATOLL_API_KEY to it"
    elif status == httpx.codes.NOT_FOUND:
        hint = "check the address and the model's name"
    return ApiFault(problem, hint=hint, status=status)
