"""Requests of the OpenAI API, as they arrive.

Decoded once, here; the ranges stand in the types. A field that is not listed
is an error that names it. Two tables say what is listed but not served:
`IGNORED` fields change nothing about an answer and are accepted whatever they
hold; `REFUSED` fields would change it, and are accepted only with a value
that asks for nothing.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Raw

from atoll.api.limits import (
    BIASES_MAX,
    CHOICES_MAX,
    DEADLINE_S_MAX,
    STOP_CHARS_MAX,
    STOPS_MAX,
    TEMPLATE_ARGS_MAX,
)
from atoll.domain.errors import BadRequest
from atoll.domain.generation import TOP_LOGPROBS_MAX

IGNORED = (
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "parallel_tool_calls",
)

REFUSED: dict[str, tuple[object, ...]] = {
    "tools": ([],),
    "tool_choice": ("none",),
    "functions": ([],),
    "function_call": ("none",),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "web_search_options": (),
    "reasoning_effort": ("none",),
    "verbosity": (),
    "echo": (False,),
    "best_of": (1,),
    "suffix": ("",),
}
"""Field to the values that ask for nothing; null always does."""

REFUSED_IN_MESSAGE: dict[str, tuple[object, ...]] = {
    "tool_calls": ([],),
    "tool_call_id": (),
    "function_call": (),
    "refusal": ("",),
    "audio": (),
    "annotations": ([],),
}

_RAW_CHARS_MAX = 64
_UNSET: Raw = msgspec.field(default_factory=Raw)
"""Made for each request, as a default in the type could not be told in the API's document."""

StopText = Annotated[str, Meta(min_length=1, max_length=STOP_CHARS_MAX)]
Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
"""Larger ones cannot be handed on to the process that renders templates."""
TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class StreamOptions(msgspec.Struct, forbid_unknown_fields=True):
    """`include_obfuscation` pads events against a listener; events here are not padded."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ContentPart(msgspec.Struct):
    """A part of a message; only text parts are served, the rest is told by `type`."""

    type: Annotated[str, Meta(max_length=64)]
    text: str | None = None


class Message(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One message of a chat. `name` is accepted, as no template we serve uses it."""

    role: Annotated[str, Meta(max_length=64)]
    content: str | list[ContentPart] | None = None
    name: Annotated[str, Meta(max_length=256)] | None = None
    tool_calls: Raw = _UNSET
    tool_call_id: Raw = _UNSET
    function_call: Raw = _UNSET
    refusal: Raw = _UNSET
    audio: Raw = _UNSET
    annotations: Raw = _UNSET


class CommonRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What both endpoints take. `exact`, `ignore_eos`, `deadline_s`, `top_k`,
    `min_p` and `repeat_penalty` are extensions; see docs/reference/api.md.
    """

    model: Annotated[str, Meta(max_length=512)]
    max_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    repeat_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None
    seed: Int64 | None = None
    logit_bias: (
        Annotated[
            dict[TokenId, Annotated[float, Meta(ge=-100, le=100)]], Meta(max_length=BIASES_MAX)
        ]
        | None
    ) = None
    n: Annotated[int, Meta(ge=1, le=CHOICES_MAX)] | None = None
    stop: StopText | Annotated[list[StopText], Meta(max_length=STOPS_MAX)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    exact: bool | None = None
    ignore_eos: bool | None = None
    deadline_s: Annotated[float, Meta(gt=0, le=DEADLINE_S_MAX)] | None = None
    user: Raw = _UNSET
    metadata: Raw = _UNSET
    store: Raw = _UNSET
    service_tier: Raw = _UNSET
    safety_identifier: Raw = _UNSET
    prompt_cache_key: Raw = _UNSET
    prompt_cache_retention: Raw = _UNSET


class ChatRequest(CommonRequest, kw_only=True, forbid_unknown_fields=True):
    """POST /v1/chat/completions."""

    messages: Annotated[list[Message], Meta(min_length=1)]
    max_completion_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=TOP_LOGPROBS_MAX)] | None = None
    chat_template_kwargs: (
        Annotated[dict[str, str | Int64 | float | bool], Meta(max_length=TEMPLATE_ARGS_MAX)] | None
    ) = None
    parallel_tool_calls: Raw = _UNSET
    tools: Raw = _UNSET
    tool_choice: Raw = _UNSET
    functions: Raw = _UNSET
    function_call: Raw = _UNSET
    response_format: Raw = _UNSET
    modalities: Raw = _UNSET
    audio: Raw = _UNSET
    prediction: Raw = _UNSET
    web_search_options: Raw = _UNSET
    reasoning_effort: Raw = _UNSET
    verbosity: Raw = _UNSET


class CompletionRequest(CommonRequest, kw_only=True, forbid_unknown_fields=True):
    """POST /v1/completions. `prompt`: text, token ids, or a list of either."""

    prompt: str | list[str | TokenId | list[TokenId]]
    logprobs: Annotated[int, Meta(ge=0, le=5)] | None = None
    echo: Raw = _UNSET
    best_of: Raw = _UNSET
    suffix: Raw = _UNSET


Asked = TypeVar("Asked", ChatRequest, CompletionRequest)

_chat = msgspec.json.Decoder(ChatRequest)
_completion = msgspec.json.Decoder(CompletionRequest)


def decode_chat(body: bytes) -> ChatRequest:
    """Decode the body of a chat completion.

    Raises:
        BadRequest: Not JSON, an unknown field, a value out of range, or a
            field that asks for what is not served.
    """
    request = _decode(_chat, body)
    for index, message in enumerate(request.messages):
        _check_refused(message, REFUSED_IN_MESSAGE, f"messages[{index}].")
    return request


def decode_completion(body: bytes) -> CompletionRequest:
    """Decode the body of a completion; raises like `decode_chat`."""
    return _decode(_completion, body)


def _decode(decoder: msgspec.json.Decoder[Asked], body: bytes) -> Asked:
    try:
        request = decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _explain(error) from None
    except UnicodeDecodeError:
        raise BadRequest("the body is not UTF-8", hint="encode the JSON as UTF-8") from None
    except (msgspec.DecodeError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise BadRequest(f"the body is not valid JSON: {reason}", hint="send one object") from None
    _check_refused(request, REFUSED, "")
    return request


def _explain(error: msgspec.ValidationError) -> BadRequest:
    """Name the field that msgspec's message points at."""
    text, _, place = str(error).partition(" - at ")
    found = re.search(r"`\$\.?([^`]*)`$", place)
    path = found[1] if found else ""
    field = re.search(r"(unknown|required) field `(.*)`", text)
    if field is None:
        key = "a key of " if place.startswith("`key`") else ""
        return BadRequest(f"{key}{path or 'the body'}: {text}", param=path or None)
    param = f"{path}.{field[2]}" if path else field[2]
    if field[1] == "required":
        return BadRequest(f"the field {param} is missing", param=param)
    return BadRequest(
        f"the field {param} is not known",
        hint="leave it out; the API reference lists the fields that are served",
        param=param,
    )


def _check_refused(struct: msgspec.Struct, table: dict[str, tuple[object, ...]], path: str) -> None:
    """Refuse what would change the answer but is not served."""
    for name, harmless in table.items():
        raw: Raw | None = getattr(struct, name, None)
        if raw is None or not memoryview(raw):
            continue
        if len(memoryview(raw)) <= _RAW_CHARS_MAX:
            value = _decode_raw(raw, f"{path}{name}")
            # 1 == True in Python, but not in JSON.
            if value is None or any(value == h and type(value) is type(h) for h in harmless):
                continue
        raise BadRequest(
            f"{path}{name} is not served",
            hint="this gateway generates plain text; leave the field out",
            param=f"{path}{name}",
        )


def _decode_raw(raw: Raw, param: str) -> Any:
    """What a field holds that was passed over: only its extent was checked then, not its text.

    Raises:
        BadRequest: It is no JSON.
    """
    try:
        return msgspec.json.decode(raw)
    except UnicodeDecodeError:
        raise BadRequest(f"{param} is not UTF-8", param=param) from None
    except msgspec.DecodeError as error:
        raise BadRequest(f"{param} is not valid JSON: {error}", param=param) from None
