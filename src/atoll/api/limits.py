"""What one client may take: sizes, times, and how many requests at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.requests import Request

from atoll.api.errors import ApiError

CHOICES_MAX = 8
"""Most generations of one request (`n`, times the prompts of a completion)."""

STOPS_MAX = 4
STOP_CHARS_MAX = 256
BIASES_MAX = 300
TEMPLATE_ARGS_MAX = 16
DEADLINE_S_MAX = 86_400
DISCARD_BODIES = 4
"""How many times the body limit is read and dropped, so that a client that is
still sending sees the refusal and not a reset connection."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of the HTTP side; every one is per process.

    `deadline_s` is how long a request may take that does not say, 0: as long as it does;
    `write_timeout_s` is how long a client may leave a full send buffer
    untouched; `queue_events` how many events of a stream wait for it before
    the generation itself waits; `ring_wait_s` how long a stream that is resumed
    waits for a ring, and `comment_s` how often a stream without tokens says why.
    """

    body_bytes_max: int = 4 * 1024 * 1024
    header_bytes_max: int = 32 * 1024
    messages_max: int = 1024
    requests_max: int = 256
    requests_per_key_max: int = 32
    connections_max: int = 1024
    header_timeout_s: float = 15.0
    body_timeout_s: float = 30.0
    idle_timeout_s: int = 30
    write_timeout_s: float = 30.0
    deadline_s: float = 600.0
    queue_events: int = 64
    ring_wait_s: float = 120.0
    comment_s: float = 3.0


class RequestLimiter:
    """Counts the requests in progress, of each key and of all together."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._of_key: Counter[str] = Counter()
        self._all = 0

    @contextmanager
    def slot(self, key_id: str) -> Iterator[None]:
        """Hold a place for one request of `key_id`.

        Raises:
            ApiError: 429 if the key, 503 if the gateway has no place left.
        """
        if self._of_key[key_id] >= self._limits.requests_per_key_max:
            raise ApiError(
                f"this key has {self._limits.requests_per_key_max} requests in progress",
                hint="wait for one to end",
                status=429,
                code="rate_limit_exceeded",
                kind="rate_limit_error",
                headers={"retry-after": "1"},
            )
        if self._all >= self._limits.requests_max:
            raise ApiError(
                "the gateway has no room for another request",
                hint="try again in a moment",
                status=503,
                code="overloaded",
                kind="server_error",
                headers={"retry-after": "1"},
            )
        self._of_key[key_id] += 1
        self._all += 1
        try:
            yield
        finally:
            self._all -= 1
            self._of_key[key_id] -= 1
            if not self._of_key[key_id]:
                del self._of_key[key_id]


def check_headers(headers: list[tuple[bytes, bytes]], limits: Limits) -> None:
    """Refuse a request whose header fields together are too large.

    Raises:
        ApiError: 431.
    """
    if sum(len(name) + len(value) for name, value in headers) > limits.header_bytes_max:
        raise headers_too_large(limits)


def headers_too_large(limits: Limits) -> ApiError:
    """The refusal for header fields over the limit."""
    return ApiError(
        f"the header fields are larger than {limits.header_bytes_max} bytes",
        hint="send fewer or shorter header fields",
        status=431,
        code="headers_too_large",
        headers={"connection": "close"},
    )


async def read_json_body(request: Request, limits: Limits) -> bytes:
    """Read the body of a request that must carry JSON, within size and time.

    Raises:
        ApiError: 415 for another content type, 413 for a body over the limit,
            408 for one that does not arrive in time.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(
            f"the content type is {kind or 'missing'}, not application/json",
            hint="send the header Content-Type: application/json",
            status=415,
            code="unsupported_media_type",
            headers={"connection": "close"},
        )
    try:
        async with asyncio.timeout(limits.body_timeout_s):
            return await _read_bounded(request, limits.body_bytes_max)
    except TimeoutError:
        raise ApiError(
            f"the body did not arrive within {limits.body_timeout_s:g} s",
            status=408,
            code="request_timeout",
            headers={"connection": "close"},
        ) from None


async def _read_bounded(request: Request, bytes_max: int) -> bytes:
    """The body, or 413; what is over the limit is dropped as it comes."""
    too_large = ApiError(
        f"the body is larger than {bytes_max} bytes",
        hint="send a shorter prompt",
        status=413,
        code="body_too_large",
        headers={"connection": "close"},
    )
    if "100-continue" in request.headers.get("expect", "").lower():
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > bytes_max:
            raise too_large
    parts: list[bytes] = []
    n_bytes = 0
    async for part in request.stream():
        n_bytes += len(part)
        if n_bytes > bytes_max * DISCARD_BODIES:
            break
        if n_bytes <= bytes_max:
            parts.append(part)
    if n_bytes > bytes_max:
        raise too_large
    return b"".join(parts)
