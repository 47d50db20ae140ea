"""Requests: every field outside its range, type or list is refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from atoll.api.schema import IGNORED, REFUSED, decode_chat, decode_completion
from atoll.domain.errors import BadRequest

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
COMPLETION: dict[str, Any] = {"model": "m", "prompt": "hi"}

OUT_OF_RANGE: list[tuple[str, Any]] = [
    ("temperature", -0.1),
    ("temperature", 2.01),
    ("temperature", "hot"),
    ("temperature", True),
    ("top_p", -0.1),
    ("top_p", 1.1),
    ("top_k", -1),
    ("top_k", 1.5),
    ("min_p", 1.5),
    ("frequency_penalty", 2.5),
    ("frequency_penalty", -2.5),
    ("presence_penalty", 2.5),
    ("repeat_penalty", 0),
    ("repeat_penalty", 11),
    ("max_tokens", 0),
    ("max_tokens", -1),
    ("max_tokens", 2**31),
    ("n", 0),
    ("n", 9),
    ("seed", 2**63),
    ("seed", "one"),
    ("stop", ""),
    ("stop", "x" * 257),
    ("stop", ["a", "b", "c", "d", "e"]),
    ("stop", [""]),
    ("stop", 5),
    ("stream", "yes"),
    ("stream_options", True),
    ("logit_bias", {"5": 101}),
    ("logit_bias", {"five": 1}),
    ("logit_bias", {"-1": 1}),
    ("logit_bias", {str(n): 1 for n in range(301)}),
    ("exact", "yes"),
    ("ignore_eos", 1),
    ("model", 5),
]


@pytest.mark.parametrize(("field", "value"), OUT_OF_RANGE)
@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_out_of_range(endpoint: str, field: str, value: Any) -> None:
    body = json.dumps((CHAT if endpoint == "chat" else COMPLETION) | {field: value}).encode()
    decode = decode_chat if endpoint == "chat" else decode_completion
    with pytest.raises(BadRequest) as caught:
        decode(body)
    assert caught.value.param is not None
    assert caught.value.param.startswith(field)
    assert field in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"content": "hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "text": "hi"}]}, "messages[0].text"),
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
        ({"logprobs": 3}, "logprobs"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"top_logprobs": -1}, "top_logprobs"),
        ({"stream_options": {"include_all": True}}, "stream_options.include_all"),
        ({"chat_template_kwargs": {"a": [1]}}, "chat_template_kwargs[...]"),
        ({"chat_template_kwargs": {"a": 2**63}}, "chat_template_kwargs[...]"),
        ({"chat_template_kwargs": {"a": 2**64}}, "chat_template_kwargs[...]"),
        ({"chat_template_kwargs": {"a": -(2**63) - 1}}, "chat_template_kwargs[...]"),
        ({"temprature": 1}, "temprature"),
        ({"prompt": "hi"}, "prompt"),
    ],
)
def test_bad_chat_fields(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        decode_chat(json.dumps(CHAT | fields).encode())
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": 5}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": [-1]}, "prompt[0]"),
        ({"logprobs": 6}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"messages": []}, "messages"),
        ({"max_completion_tokens": 5}, "max_completion_tokens"),
    ],
)
def test_bad_completion_fields(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        decode_completion(json.dumps(COMPLETION | fields).encode())
    assert caught.value.param == param


@pytest.mark.parametrize("missing", ["model", "messages"])
def test_a_missing_field_is_named(missing: str) -> None:
    fields = {name: value for name, value in CHAT.items() if name != missing}
    with pytest.raises(BadRequest, match=f"{missing} is missing") as caught:
        decode_chat(json.dumps(fields).encode())
    assert caught.value.param == missing


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b"[]",
        b'"text"',
        b"\xff\xfe",
        b'{"model": "\xff"}',
        b'{"model": "\\ud800", "messages": []}',
        b'{"model": "m", "temperature": NaN}',
        b'{"model": "m", "temperature": 1e999}',
        b'{"metadata": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        b'{"nothing": ' + b'{"a":' * 200_000 + b"1" + b"}" * 200_000 + b"}",
    ],
)
def test_what_is_not_a_json_object_is_refused(body: bytes) -> None:
    for decode in (decode_chat, decode_completion):
        with pytest.raises(BadRequest):
            decode(body)


@pytest.mark.parametrize("held", [b'"\xff"', b'{"type\xff": "text"}', b"1e999", b"[-1e999]"])
@pytest.mark.parametrize("name", ["response_format", "tools"])
def test_fields_that_are_passed_over_at_first_are_refused_if_they_are_no_json(
    name: str, held: bytes
) -> None:
    body = json.dumps(CHAT).encode()[:-1] + b', "%b": %b}' % (name.encode(), held)
    with pytest.raises(BadRequest, match=r"is not UTF-8|is not valid JSON") as caught:
        decode_chat(body)
    assert caught.value.param == name


@pytest.mark.parametrize("held", [b'"\xff"', b"1e999"])
def test_so_are_those_of_messages(held: bytes) -> None:
    message = b'{"role": "user", "content": "hi", "audio": %b}' % held
    with pytest.raises(BadRequest, match=r"messages\[0\]\.audio is not"):
        decode_chat(b'{"model": "m", "messages": [%b]}' % message)


def test_ignored_fields_may_hold_anything() -> None:
    anything = {name: {"any": ["thing", 1]} for name in IGNORED}
    decode_chat(json.dumps(CHAT | anything).encode())
    del anything["parallel_tool_calls"]
    decode_completion(json.dumps(COMPLETION | anything).encode())


CHAT_ONLY = [name for name in REFUSED if name not in ("echo", "best_of", "suffix")]


@pytest.mark.parametrize("name", CHAT_ONLY)
def test_refused_fields_are_refused_by_name(name: str) -> None:
    for value in ([{"type": "function"}], {"type": "json_object"}, "high", True):
        with pytest.raises(BadRequest) as caught:
            decode_chat(json.dumps(CHAT | {name: value}).encode())
        assert caught.value.param == name


@pytest.mark.parametrize(("name", "value"), [("echo", True), ("best_of", 2), ("suffix", "x")])
def test_refused_fields_of_completions(name: str, value: Any) -> None:
    with pytest.raises(BadRequest) as caught:
        decode_completion(json.dumps(COMPLETION | {name: value}).encode())
    assert caught.value.param == name


@pytest.mark.parametrize("name", CHAT_ONLY)
def test_refused_fields_may_ask_for_nothing(name: str) -> None:
    for value in (*REFUSED[name], None):
        decode_chat(json.dumps(CHAT | {name: value}).encode())


def test_true_is_not_one() -> None:
    with pytest.raises(BadRequest):
        decode_completion(json.dumps(COMPLETION | {"best_of": True}).encode())


def test_a_reply_of_ours_can_be_sent_back_as_a_message() -> None:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "hello",
        "refusal": None,
        "annotations": [],
        "audio": None,
        "function_call": None,
        "tool_calls": None,
    }
    assert decode_chat(json.dumps(CHAT | {"messages": [message]}).encode())
    message["tool_calls"] = [{"id": "call", "type": "function"}]
    with pytest.raises(BadRequest) as caught:
        decode_chat(json.dumps(CHAT | {"messages": [message]}).encode())
    assert caught.value.param == "messages[0].tool_calls"


def test_null_means_not_given() -> None:
    nulls = dict.fromkeys(
        ("temperature", "top_p", "n", "stop", "seed", "max_tokens", "logit_bias", "stream")
    )
    request = decode_chat(json.dumps(CHAT | nulls).encode())
    assert request == decode_chat(json.dumps(CHAT).encode())
