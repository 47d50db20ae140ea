"""Errors as HTTP clients see them: OpenAI's form, one status for each kind.

This is the one place where the gateway renders an error. What is not an
`AtollError` is our own mistake: the client learns only that it happened, the
log gets the traceback.
"""

from __future__ import annotations

import logging
from http import HTTPStatus

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from atoll.domain.errors import (
    AtollError,
    BadRequest,
    DeadlineExceeded,
    Overloaded,
    RingDown,
    SlowReader,
)

log = logging.getLogger(__name__)

RING_RETRY_AFTER_S = 5
"""How long a client should wait while a ring forms: two heartbeats and a load."""


class ErrorBody(msgspec.Struct, frozen=True):
    """OpenAI's error object."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorReply(msgspec.Struct, frozen=True):
    """What is sent: `{"error": {...}}`."""

    error: ErrorBody


class ApiError(AtollError):
    """An error that only HTTP knows; everything the client is told stands in it."""

    exit_code = 2

    def __init__(
        self,
        problem: str,
        *,
        status: int,
        code: str,
        hint: str = "",
        param: str | None = None,
        kind: str = "invalid_request_error",
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(problem, hint=hint)
        self.status = status
        self.code = code
        self.param = param
        self.kind = kind
        self.headers = headers or {}


class ContextExceeded(BadRequest):
    """The prompt, or prompt and answer together, do not fit the model's context."""


class Failure(msgspec.Struct, frozen=True):
    """An error ready to be sent."""

    status: int
    body: ErrorBody
    headers: dict[str, str]


def describe(error: Exception) -> Failure:
    """Say which status, body and headers belong to `error`."""
    match error:
        case ApiError():
            body = ErrorBody(str(error), error.kind, error.param, error.code)
            return Failure(error.status, body, error.headers)
        case BadRequest():
            code = "context_length_exceeded" if isinstance(error, ContextExceeded) else None
            return Failure(
                400, ErrorBody(str(error), "invalid_request_error", error.param, code), {}
            )
        case Overloaded():
            body = ErrorBody(str(error), "server_error", code="overloaded")
            return Failure(503, body, {"retry-after": str(max(1, error.retry_after_s))})
        case DeadlineExceeded():
            return Failure(504, ErrorBody(str(error), "server_error", code="deadline_exceeded"), {})
        case SlowReader():
            return Failure(408, ErrorBody(str(error), "server_error", code="slow_reader"), {})
        case RingDown():
            body = ErrorBody(str(error), "server_error", code="ring_down")
            return Failure(503, body, {"retry-after": str(RING_RETRY_AFTER_S)})
        case AtollError():
            return Failure(500, ErrorBody(str(error), "server_error", code="internal_error"), {})
        case HTTPException():
            return _describe_http(error)
        case _:
            body = ErrorBody("the gateway made a mistake", "server_error", code="internal_error")
            return Failure(500, body, {})


def _describe_http(error: HTTPException) -> Failure:
    """Errors of the router: no such path, or another method."""
    codes = {404: "unknown_url", 405: "method_not_allowed"}
    phrase = HTTPStatus(error.status_code).phrase.lower()
    body = ErrorBody(phrase, "invalid_request_error", code=codes.get(error.status_code))
    return Failure(error.status_code, body, dict(error.headers or {}))


def error_json(body: ErrorBody) -> bytes:
    """`{"error": {...}}` as bytes."""
    return msgspec.json.encode(ErrorReply(body))


def note(error: Exception) -> None:
    """Log what an operator should know of: never a client's mistake, never a prompt."""
    if isinstance(error, Overloaded):
        # There may be hundreds a second, and `atoll status` shows how full the rings are.
        log.info("request.refused kind=Overloaded problem=%s", error)
    elif not isinstance(error, AtollError | HTTPException):
        log.error("request.failed kind=%s", type(error).__name__, exc_info=error)
    elif describe(error).status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.warning("request.refused kind=%s problem=%s", type(error).__name__, error)


def error_response(error: Exception) -> Response:
    """The whole HTTP response for `error`."""
    note(error)
    failure = describe(error)
    return Response(
        error_json(failure.body),
        status_code=failure.status,
        headers=failure.headers,
        media_type="application/json",
    )


async def render_error(_request: Request, error: Exception) -> Response:
    """Starlette's exception handler."""
    return error_response(error)
