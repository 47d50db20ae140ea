"""The HTTP application: who may ask, what there is to ask, and where it goes.

`Gate` stands before every path but /health: it checks the size of the header
fields, the host name, the key, and how much is in progress. The rest are
Starlette routes.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from atoll.api.admission import Admission, welcome
from atoll.api.backend import Backend, StatusSource, TextBackend
from atoll.api.chat import chat_job
from atoll.api.client import ClientGone, bounded_send
from atoll.api.completions import completion_job
from atoll.api.errors import ApiError, error_response, note, render_error
from atoll.api.journal import FormName
from atoll.api.keeper import Keeper
from atoll.api.keys import ApiKey, KeyStore
from atoll.api.limits import Limits, RequestLimiter, check_headers, read_json_body
from atoll.api.openapi import PATH as DOCUMENT_PATH
from atoll.api.openapi import document
from atoll.api.params import Job, check_model
from atoll.api.replies import HealthReply, Model, ModelList
from atoll.api.streams import Streams
from atoll.domain.errors import AtollError, RingDown

NO_AUTH_KEY = "no-auth"
HEALTH_PATH = "/health"


def create_app(
    backend: Backend,
    text: TextBackend,
    *,
    keys: KeyStore | None,
    limits: Limits | None = None,
    status: StatusSource | None = None,
    keeper: Keeper | None = None,
) -> Starlette:
    """The ASGI application of a gateway.

    Args:
        backend: The ring.
        text: Tokeniser and chat template.
        keys: Who may ask; None asks for no key and answers only requests
            that name this machine's loopback address as host.
        limits: None for the defaults.
        status: What `GET /status` answers to those with a key; None: no such path.
        keeper: Keeps streams, so that clients can go on with them; None: none are kept.
    """
    limits = limits or Limits()
    admission = Admission(backend, limits)
    streams = Streams(admission.backend, keeper, limits)
    doors = _Doors(admission, text, limits, streams, status)

    extra = [Route("/status", doors.status, methods=["GET"])] if status else []
    return Starlette(
        routes=[
            Route(HEALTH_PATH, doors.health, methods=["GET"]),
            Route(DOCUMENT_PATH, doors.document, methods=["GET"]),
            Route("/v1/models", doors.models, methods=["GET"]),
            # Names of models may hold slashes.
            Route("/v1/models/{name:path}", doors.model, methods=["GET"]),
            Route("/v1/chat/completions", doors.chat, methods=["POST"]),
            Route("/v1/completions", doors.completions, methods=["POST"]),
            Route("/v1/streams/{stream}", doors.resume, methods=["GET"]),
            *extra,
        ],
        middleware=[Middleware(Gate, keys=keys, limits=limits)],
        exception_handlers={
            AtollError: render_error,
            HTTPException: render_error,
            ClientDisconnect: _nobody_there,
            Exception: render_error,
        },
    )


async def _nobody_there(_request: Request, _error: Exception) -> Response:
    """The client left while it was sending; the server drops this answer."""
    return Response(status_code=400)


KEY_ID = "atoll.key_id"
"""Where a request's scope has the id of the key that it came with."""


class _Doors:
    """The endpoints."""

    def __init__(
        self,
        admission: Admission,
        text: TextBackend,
        limits: Limits,
        streams: Streams,
        status: StatusSource | None,
    ) -> None:
        self._admission = admission
        self._backend = admission.backend
        self._text = text
        self._limits = limits
        self._streams = streams
        self._status = status
        self._document = b""

    async def health(self, _request: Request) -> Response:
        health = self._backend.health()
        if health.ready:
            return _json(HealthReply("ok"))
        return _json(HealthReply("unavailable", health.reason), status=503)

    async def document(self, _request: Request) -> Response:
        if not self._document:
            kind = self._status.kind if self._status else None
            found = document(self._backend.card, self._limits, status=kind)
            self._document = msgspec.json.encode(found)
        return Response(self._document, media_type="application/json")

    async def status(self, _request: Request) -> Response:
        assert self._status is not None
        return _json(self._status.read())

    async def models(self, _request: Request) -> Response:
        return _json(ModelList([self._model()]))

    async def model(self, request: Request) -> Response:
        check_model(request.path_params["name"], self._backend.card)
        return _json(self._model())

    async def chat(self, request: Request) -> ASGIApp:
        card, text, limits = self._backend.card, self._text, self._limits
        return await self._answer(request, "chat", lambda b: chat_job(b, text, card, limits))

    async def completions(self, request: Request) -> ASGIApp:
        card, text = self._backend.card, self._text
        return await self._answer(request, "text", lambda b: completion_job(b, text, card))

    async def resume(self, request: Request) -> ASGIApp:
        answer = await self._streams.resume(request, request.scope[KEY_ID])
        self._admission.go_on(request.scope)
        return answer

    async def _answer(
        self, request: Request, form: FormName, make_job: Callable[[bytes], Awaitable[Job]]
    ) -> ASGIApp:
        self._admission.knock(request.scope)
        body = await read_json_body(request, self._limits)
        key, streams = request.scope[KEY_ID], self._streams
        retry = streams.retry_of(request, key, body)
        if (again := await streams.again(retry)) is not None:
            self._admission.go_on(request.scope)
            return again
        health = self._backend.health()
        if not (health.ready or health.holds):
            raise RingDown(health.reason or "the ring is not up", hint="try again in a moment")
        job = (await make_job(body)).of_group(key)
        # The same request may have come a second time meanwhile.
        if (again := await streams.again(retry)) is not None:
            self._admission.go_on(request.scope)
            return again
        return streams.begin(self._admission.enter(request.scope, job), form, retry)

    def _model(self) -> Model:
        card = self._backend.card
        return Model(card.name, card.created, card.context)


def _json(reply: msgspec.Struct, status: int = 200) -> Response:
    return Response(msgspec.json.encode(reply), status_code=status, media_type="application/json")


class Gate:
    """ASGI middleware that lets a request in, and holds its place until it is answered."""

    def __init__(self, app: ASGIApp, keys: KeyStore | None, limits: Limits) -> None:
        self._app = app
        self._keys = keys
        self._limits = limits
        self._requests = RequestLimiter(limits)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse with the reason, or run the application inside the request's place."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send = bounded_send(scope, receive, send, self._limits.write_timeout_s)
        with ExitStack() as held, suppress(ClientGone):
            try:
                key = self._admit(scope)
                if key is not None:
                    scope[KEY_ID] = key.id
                    welcome(scope, key, held)
                    held.enter_context(self._requests.slot(key.id))
            except AtollError as error:
                await error_response(error)(scope, receive, send)
                return
            await self._app(scope, receive, send)

    def _admit(self, scope: Scope) -> ApiKey | None:
        """The key that pays for this request; None where no key is needed."""
        check_headers(scope["headers"], self._limits)
        headers = dict(scope["headers"])
        if self._keys is None:
            _check_host(headers.get(b"host", b""))
        if scope["path"] == HEALTH_PATH:
            return None
        return self._key(headers.get(b"authorization", b""))

    def _key(self, authorization: bytes) -> ApiKey:
        """The key in the header.

        Raises:
            ApiError: 401; 503 if the keys cannot be read.
        """
        if self._keys is None:
            return ApiKey(id=NO_AUTH_KEY, name="", created=0)
        scheme, _, presented = authorization.decode("latin-1").partition(" ")
        try:
            key = self._keys.verify(presented.strip()) if scheme.lower() == "bearer" else None
        except AtollError as error:
            # The problem names a file of the operator; the client need not know it.
            note(error)
            raise ApiError(
                "the gateway cannot check API keys",
                hint="tell its operator",
                status=503,
                code="keys_unavailable",
                kind="server_error",
            ) from error
        if key is None:
            raise ApiError(
                "the API key is wrong" if authorization else "the API key is missing",
                hint="send the header Authorization: Bearer atoll-...",
                status=401,
                code="invalid_api_key",
                headers={"www-authenticate": "Bearer"},
            )
        return key


def _check_host(host: bytes) -> None:
    """Refuse a host name that is not loopback, when no key is asked for.

    A web page can make a browser call this port under a name of its own
    (DNS rebinding); the Host header is what tells it from a local program.

    Raises:
        ApiError: 403.
    """
    name = host.decode("latin-1").strip().lower()
    if name.startswith("["):
        name = name[1:].partition("]")[0]
    elif name.count(":") == 1:
        name = name.partition(":")[0]
    if name == "localhost":
        return
    with suppress(ValueError):
        if ipaddress.ip_address(name).is_loopback:
            return
    raise ApiError(
        "without API keys only loopback host names are served",
        hint="use http://127.0.0.1 or start the gateway with keys",
        status=403,
        code="host_not_allowed",
    )
