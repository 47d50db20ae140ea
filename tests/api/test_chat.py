"""Chat completions: messages in, OpenAI's forms out."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from tests.api.conftest import Door
from tests.support.scripted import CONTEXT, say

from atoll.api.backend import ChatTurn, ModelCard
from atoll.api.chat import ChatForm
from atoll.api.choices import Delta
from atoll.api.params import Job
from atoll.api.replies import ChatChunk, ChatChunkChoice, ChatDelta, Usage
from atoll.domain.generation import GenerateRequest, SamplingParams

USER = {"role": "user", "content": "hi"}


@pytest.mark.network
async def test_messages_reach_the_template(door: Door) -> None:
    messages = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": None},
        {"role": "user", "content": "", "name": "ann"},
    ]
    reply = await door.chat(messages=messages, chat_template_kwargs={"enable_thinking": False})
    assert reply.status_code == 200
    [(turns, extra)] = door.text.seen
    assert list(turns) == [
        ChatTurn("system", "be brief"),
        ChatTurn("user", "ab"),
        ChatTurn("assistant", ""),
        ChatTurn("user", ""),
    ]
    assert extra == {"enable_thinking": False}


BAD: list[tuple[dict[str, Any], str]] = [
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
    ({"messages": [USER, {"role": "function", "content": "x"}]}, "messages[1].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        "messages[0].content[0].type",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
        "messages[0].content[0].type",
    ),
    ({"messages": [{"role": "user", "content": "refuse"}]}, "messages"),
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"top_logprobs": 2}, "top_logprobs"),
    ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
    ({"chat_template_kwargs": {"a": 2**64}}, "chat_template_kwargs[...]"),
    ({"chat_template_kwargs": {"messages": "x"}}, "chat_template_kwargs"),
    ({"chat_template_kwargs": {"__class__": "x"}}, "chat_template_kwargs"),
    ({"stream_options": {}}, "stream_options"),
    ({"max_tokens": CONTEXT}, "messages"),
    ({"unheard_of": 1}, "unheard_of"),
]


@pytest.mark.network
@pytest.mark.parametrize(("fields", "param"), BAD)
async def test_bad_requests(door: Door, fields: dict[str, Any], param: str) -> None:
    reply = await door.chat(**fields)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == param
    assert door.backend.requests == []


@pytest.mark.network
async def test_a_prompt_over_the_context(door: Door) -> None:
    reply = await door.chat(messages=[{"role": "user", "content": "x" * CONTEXT}])
    assert reply.status_code == 400
    assert reply.json()["error"]["code"] == "context_length_exceeded"


@pytest.mark.network
async def test_every_field_reaches_the_ring(door: Door) -> None:
    fields = {
        "temperature": 0.5,
        "top_k": 7,
        "top_p": 0.8,
        "min_p": 0.1,
        "frequency_penalty": 0.2,
        "presence_penalty": -0.3,
        "repeat_penalty": 1.2,
        "logit_bias": {"9": 5, "3": -100},
        "seed": 77,
        "logprobs": True,
        "top_logprobs": 4,
        "exact": True,
        "ignore_eos": True,
        "deadline_s": 60,
    }
    reply = await door.chat(**fields)
    assert reply.status_code == 200
    [request] = door.backend.requests
    assert request == GenerateRequest(
        prompt=request.prompt,
        max_tokens=8,
        sampling=SamplingParams(
            temperature=0.5,
            top_k=7,
            top_p=0.8,
            min_p=0.1,
            frequency_penalty=0.2,
            presence_penalty=-0.3,
            repeat_penalty=1.2,
            logit_bias=((3, -100.0), (9, 5.0)),
            seed=77,
            logprobs=4,
        ),
        exact=True,
        ignore_eos=True,
        deadline_s=request.deadline_s,
        group=door.keys.list()[0].id,
    )


@pytest.mark.network
async def test_without_a_length_the_context_is_the_limit(door: Door) -> None:
    door.backend.sampler = say("short")
    await door.chat(max_tokens=None)
    [request] = door.backend.requests
    assert len(request.prompt) + request.max_tokens == CONTEXT


@pytest.mark.network
async def test_events_on_the_wire(door: Door) -> None:
    door.backend.sampler = say("The ", "tide", ".")
    reply = await door.chat(stream=True, stream_options={"include_usage": True})
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    *events, done, rest = reply.text.split("\n\n")
    assert (done, rest) == ("id: 7\ndata: [DONE]", "")
    chunks = [json.loads(event.partition("\ndata: ")[2]) for event in events]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks[:-1]]
    assert deltas == [
        {"role": "assistant", "content": ""},
        {"content": "The "},
        {"content": "tide"},
        {"content": "."},
        {},
    ]
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 4
    assert reply.headers["x-request-id"] == chunks[0]["id"]


@pytest.mark.network
async def test_impossible_tokens_stay_json(door: Door) -> None:
    from atoll.domain.generation import Sampled

    async def sample(_request: GenerateRequest) -> Any:
        yield Sampled(1, b"x", "length", -float("inf"), ())

    door.backend.sampler = sample
    reply = await door.chat(logprobs=True)
    assert reply.json()["choices"][0]["logprobs"]["content"][0]["logprob"] == -9999.0


@pytest.mark.parametrize("name", ["m", 'a "quoted" name', '"content":""', "ü/q4"])
@pytest.mark.parametrize("include_usage", [False, True])
@pytest.mark.parametrize("text", ["plain", 'quotes " and \\', "\n\u2028\x00", "🌊"])
def test_the_fast_frame_is_the_struct_s(name: str, text: str, include_usage: bool) -> None:
    job = Job("id", 5, (GenerateRequest((1,), 1),) * 2, (), 1, True, include_usage, False)
    form = ChatForm(job, ModelCard(name, 0, 10, 10), "fp")
    usage: msgspec.UnsetType | None = None if include_usage else msgspec.UNSET
    for index in range(2):
        choice = ChatChunkChoice(index, ChatDelta(content=text))
        chunk = ChatChunk("id", "chat.completion.chunk", 5, name, "fp", [choice], usage)
        assert form.delta(index, Delta(text)) == msgspec.json.encode(chunk)


def test_usage_has_no_choice() -> None:
    job = Job("id", 5, (GenerateRequest((1,), 1),), (), 1, True, True, False)
    form = ChatForm(job, ModelCard("m", 0, 10, 10), "fp")
    sent = json.loads(form.usage(Usage(1, 2, 3)))
    assert (sent["choices"], sent["usage"]["total_tokens"]) == ([], 3)
