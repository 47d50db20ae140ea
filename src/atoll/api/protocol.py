"""The HTTP/1.1 connection: uvicorn's, with what it leaves unbounded bounded.

uvicorn's httptools protocol reads header fields without a limit, waits
forever for the first request, answers its own refusals in plain text, and
lets a client that reads nothing keep a closing connection open. Here each of
these ends with an error in the API's form.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from atoll.api.client import ABORT_EXTENSION
from atoll.api.errors import ApiError, describe, error_json
from atoll.api.limits import Limits, headers_too_large


class BoundedProtocol(HttpToolsProtocol):
    """One connection; made by `bounded_protocol`, which sets the limits."""

    limits: ClassVar[Limits]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._header_bytes = 0
        self._in_headers = True
        self._header_timer: asyncio.TimerHandle | None = None
        self._linger_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock for the first request; refuse one connection too many."""
        super().connection_made(transport)
        self._await_headers()
        if len(self.connections) > self.limits.connections_max:
            self._refuse(
                ApiError(
                    "the gateway has no room for another connection",
                    hint="try again in a moment",
                    status=503,
                    code="overloaded",
                    kind="server_error",
                    headers={"retry-after": "1"},
                )
            )

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks."""
        self._stop_timers()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, counting what belongs to header fields that do not end."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            # Even blank lines between requests stop uvicorn's idle clock.
            self._await_headers()
        if self._in_headers and not self.transport.is_closing():
            self._header_bytes += len(data)
            if self._header_bytes > self.limits.header_bytes_max:
                self._refuse(headers_too_large(self.limits))

    def on_message_begin(self) -> None:
        """A request begins: its header fields are on the clock."""
        super().on_message_begin()
        self._in_headers = True
        self._header_bytes = 0
        self._await_headers()
        self.scope["extensions"] = {ABORT_EXTENSION: {"abort": self.transport.abort}}

    def on_headers_complete(self) -> None:
        """The header fields are whole: stop their clock."""
        self._in_headers = False
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """A closing connection may not linger on a client that reads nothing."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._linger()

    def timeout_keep_alive_handler(self) -> None:
        """An idle connection is closed; one with unread data not later than the write timeout."""
        super().timeout_keep_alive_handler()
        self._linger()

    def send_400_response(self, msg: str) -> None:
        """What cannot be parsed gets the API's form of error, too."""
        self._refuse(
            ApiError(
                msg.rstrip(".").lower(),
                status=400,
                code="invalid_http",
            )
        )

    def _await_headers(self) -> None:
        if self._header_timer is None:
            self._header_timer = self.loop.call_later(
                self.limits.header_timeout_s, self._headers_late
            )

    def _headers_late(self) -> None:
        self._header_timer = None
        if not self.transport.is_closing():
            self._refuse(
                ApiError(
                    f"no request arrived within {self.limits.header_timeout_s:g} s",
                    status=408,
                    code="request_timeout",
                )
            )

    def _refuse(self, error: ApiError) -> None:
        """Answer outside the application and close; not into another answer's middle."""
        if self.cycle is None or self.cycle.response_complete:
            failure = describe(error)
            body = error_json(failure.body)
            headers = {
                **failure.headers,
                "content-type": "application/json",
                "content-length": str(len(body)),
                "connection": "close",
            }
            head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            self.transport.write(STATUS_LINE[failure.status] + head.encode() + b"\r\n" + body)
        self.transport.close()
        self._linger()

    def _linger(self) -> None:
        if self._linger_timer is None:
            self._linger_timer = self.loop.call_later(
                self.limits.write_timeout_s, self.transport.abort
            )

    def _stop_timers(self) -> None:
        for timer in (self._header_timer, self._linger_timer):
            if timer is not None:
                timer.cancel()
        self._header_timer = self._linger_timer = None


def bounded_protocol(limits: Limits) -> type[BoundedProtocol]:
    """The protocol class with these limits; uvicorn makes one object a connection."""
    return type("BoundedProtocol", (BoundedProtocol,), {"limits": limits})
