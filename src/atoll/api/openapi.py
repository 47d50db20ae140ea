"""The API's own document: OpenAPI 3.1, made from the types that requests are decoded into.

What no type can say, as it depends on the model that is served or is checked
after decoding, is put in by `_narrow`.

Source: OpenAPI Specification 3.1.1; JSON Schema 2020-12.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from atoll import __version__
from atoll.api.backend import ModelCard
from atoll.api.chat import ROLES, TEMPLATE_RESERVED
from atoll.api.errors import ErrorReply
from atoll.api.limits import CHOICES_MAX, Limits
from atoll.api.replies import (
    ChatChunk,
    ChatCompletion,
    Completion,
    HealthReply,
    Model,
    ModelList,
)
from atoll.api.schema import (
    IGNORED,
    REFUSED,
    REFUSED_IN_MESSAGE,
    ChatRequest,
    CompletionRequest,
)

Json = dict[str, Any]

PATH = "/openapi.json"
_TYPES: tuple[type[msgspec.Struct], ...] = (
    ChatRequest,
    CompletionRequest,
    ChatCompletion,
    ChatChunk,
    Completion,
    Model,
    ModelList,
    HealthReply,
    ErrorReply,
)
_COMPONENT = "#/components/schemas/{name}"
_JSON = "application/json"
# OpenAPI 3.1 has no word for a stream of events: this is one of them, and `data` holds the
# JSON of the type beside it, but for the last one's, which is [DONE].
_EVENT: Json = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "event": {"type": "string"},
        "data": {"type": "string"},
    },
    "required": ["data"],
}
_SECONDS = {"description": "Seconds to wait.", "schema": {"type": "string"}}
_WITH_RETRY = ("429", "503")
_REFUSALS = {
    "400": "Not HTTP/1.1, not JSON, an unknown field, or a value out of range.",
    "401": "No key, or a wrong one.",
    "403": "Without keys, a host name that is not loopback.",
    "404": "Another model, or no such path.",
    "408": "The request or its body came too slowly.",
    "409": "Another reader has the stream, or it cannot be gone on with as it stands.",
    "413": "The body is too large.",
    "415": "The content type is not application/json.",
    "422": "The Idempotency-Key was used for another request.",
    "429": "The key has as much in progress as it may.",
    "431": "The header fields are too large.",
    "500": "A fault of the engine or the gateway.",
    "503": "The ring is down, there is no room, or keys cannot be read.",
    "504": "The deadline passed before the first token.",
}
_ANY = ("400", "408", "403", "431", "500", "503")
_KEYED = (*_ANY, "401", "429")
_POSTED = (*_KEYED, "404", "409", "413", "415", "422", "504")
_RESUMED = (*_KEYED, "404", "409", "504")


def document(
    card: ModelCard, limits: Limits, *, status: type[msgspec.Struct] | None = None
) -> Json:
    """The document of a gateway that serves the model of `card`.

    Args:
        card: The model; its name, context and vocabulary bound the requests.
        limits: Of the gateway.
        status: What `GET /status` answers; None: there is no such path.
    """
    types = (*_TYPES, status) if status else _TYPES
    _, schemas = msgspec.json.schema_components(types, ref_template=_COMPONENT)
    _narrow(schemas, card, limits)
    paths = {
        "/health": {"get": _health()},
        PATH: {"get": _got("This document.", {"type": "object"})},
        "/v1/models": {"get": _got("The served models.", _ref(ModelList))},
        "/v1/models/{name}": {"get": _model(card)},
        "/v1/chat/completions": {"post": _posted(ChatRequest, ChatCompletion, ChatChunk)},
        "/v1/completions": {"post": _posted(CompletionRequest, Completion, Completion)},
        "/v1/streams/{stream}": {"get": _resumed()},
    }
    if status:
        paths["/status"] = {"get": _got("The rings in numbers.", _ref(status))}
    whole = {
        "openapi": "3.1.0",
        "info": {
            "title": "Atoll",
            "version": __version__,
            "description": "The OpenAI API for text, served by a ring of machines.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }
    # Defaults of the types may be tuples, which validators do not take for arrays.
    plain: Json = msgspec.json.decode(msgspec.json.encode(whole))
    return plain


def _ref(kind: type[msgspec.Struct]) -> Json:
    return {"$ref": _COMPONENT.format(name=kind.__name__)}


def _answer(description: str, schema: Json) -> Json:
    return {"description": description, "content": {_JSON: {"schema": schema}}}


def _refusals(statuses: Iterable[str]) -> Json:
    """Responses by status, all with the one form of error."""
    out: Json = {}
    for status in sorted(statuses):
        out[status] = _answer(_REFUSALS[status], _ref(ErrorReply))
        if status in _WITH_RETRY:
            out[status]["headers"] = {"Retry-After": _SECONDS}
    return out


def _got(summary: str, schema: Json) -> Json:
    return {"summary": summary, "responses": {"200": _answer("OK", schema)} | _refusals(_KEYED)}


def _health() -> Json:
    responses = {"200": _answer("The ring is up.", _ref(HealthReply))} | _refusals(_ANY)
    responses["503"] = _answer("The ring is down.", _ref(HealthReply))
    return {"summary": "Whether the ring is up.", "security": [], "responses": responses}


def _model(card: ModelCard) -> Json:
    name = {
        "name": "name",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "minLength": 1},
        "example": card.name,
    }
    responses = {"200": _answer("OK", _ref(Model))} | _refusals((*_KEYED, "404"))
    return {"summary": "One model.", "parameters": [name], "responses": responses}


def _resumed() -> Json:
    """The rest of a stream, from behind the event that was read last."""
    place: Json = {"type": "integer", "minimum": 0, "maximum": (1 << 63) - 1}
    stream = {"name": "stream", "in": "path", "required": True, "schema": {"type": "string"}}
    after = {"name": "after", "in": "query", "schema": place}
    last = {"name": "Last-Event-ID", "in": "header", "schema": place}
    events = {"description": "The rest.", "content": {"text/event-stream": {"schema": _EVENT}}}
    events["content"] |= {_JSON: {"schema": {"type": "object"}}}  # type: ignore[operator]
    responses = {"200": events, "204": {"description": "All of it was read."}}
    return {
        "summary": "Go on with a stream.",
        "parameters": [stream, after, last],
        "responses": responses | _refusals(_RESUMED),
    }


def _posted(
    asked: type[msgspec.Struct], whole: type[msgspec.Struct], event: type[msgspec.Struct]
) -> Json:
    done = _answer("The answer; with `stream`, its events.", _ref(whole))
    done["content"]["text/event-stream"] = {"schema": _EVENT, "x-event-data": _ref(event)}
    done["headers"] = {"X-Request-Id": {"schema": {"type": "string"}}}
    return {
        "summary": (asked.__doc__ or "").strip(),
        "requestBody": {"required": True, "content": {_JSON: {"schema": _ref(asked)}}},
        "responses": {"200": done} | _refusals(_POSTED),
    }


def _narrow(schemas: dict[str, Json], card: ModelCard, limits: Limits) -> None:
    """Put in what is checked after decoding, so that who keeps to the document is served."""
    for name in (ChatRequest.__name__, CompletionRequest.__name__):
        fields = schemas[name]["properties"]
        fields["model"] = {"type": "string", "enum": [card.name]}
        _refuse(fields, REFUSED)
        for ignored in IGNORED:
            if ignored in fields:
                fields[ignored] = {"description": "Changes nothing and may hold anything."}
        for length in ("max_tokens", "max_completion_tokens"):
            if length in fields:
                _given(fields[length])["maximum"] = max(1, card.context - 1)
        bias = _given(fields["logit_bias"])
        bias["propertyNames"] = {"pattern": "^(0|[1-9][0-9]{0,9})$"}
        bias["description"] = f"Keys are token ids below {card.n_vocab}."
        fields["n"]["description"] = f"Times the prompts it is at most {CHOICES_MAX}."
        fields["stream_options"]["description"] = "Only with `stream`."
    chat = schemas[ChatRequest.__name__]["properties"]
    chat["messages"]["maxItems"] = limits.messages_max
    chat["top_logprobs"]["description"] = "Only with `logprobs`."
    _given(chat["chat_template_kwargs"])["propertyNames"] = {
        "pattern": "^[A-Za-z][A-Za-z0-9_]*$",
        "not": {"enum": sorted(TEMPLATE_RESERVED)},
    }
    message = schemas["Message"]["properties"]
    message["role"] = {"type": "string", "enum": list(ROLES)}
    for kind in message["content"]["anyOf"]:
        if kind["type"] == "array":
            kind["minItems"] = 1
    schemas["Message"]["anyOf"] = [
        {"properties": {"role": {"const": "assistant"}}},
        {"properties": {"content": {"type": ["string", "array"]}}, "required": ["content"]},
    ]
    schemas[CompletionRequest.__name__]["properties"]["prompt"] = _prompt(card)
    _refuse(message, REFUSED_IN_MESSAGE)
    part = schemas["ContentPart"]
    part["properties"] = {"type": {"const": "text"}, "text": {"type": "string"}}
    part["required"] = ["type", "text"]


def _prompt(card: ModelCard) -> Json:
    """A text, token ids, or several of one of them."""
    text = {"type": "string", "minLength": 1}
    token = {"type": "integer", "minimum": 0, "maximum": card.n_vocab - 1}
    tokens = _several(token, max(1, card.context - 1))
    return {"anyOf": [text, tokens, _several(text, CHOICES_MAX), _several(tokens, CHOICES_MAX)]}


def _several(items: Json, most: int) -> Json:
    return {"type": "array", "items": items, "minItems": 1, "maxItems": most}


def _refuse(fields: Json, table: Mapping[str, tuple[object, ...]]) -> None:
    for name, harmless in table.items():
        if name in fields:
            fields[name] = {
                "enum": [None, *harmless],
                "description": "Not served; only what asks for nothing is accepted.",
            }


def _given(field: Json) -> Json:
    """The schema of a field that may be null, when it is not."""
    kind: Json = field["anyOf"][0]
    return kind
