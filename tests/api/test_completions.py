"""Completions: prompts as text, token ids, or lists of either."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.api.conftest import Door
from tests.support.scripted import CONTEXT, N_VOCAB, say

pytestmark = pytest.mark.network


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("AB", [(66, 67)]),
        (["AB"], [(66, 67)]),
        (["A", "B"], [(66,), (67,)]),
        ([5, 6, 7], [(5, 6, 7)]),
        ([[5], [6, 7]], [(5,), (6, 7)]),
        (["A", [5]], [(66,), (5,)]),
    ],
)
async def test_prompts(door: Door, prompt: Any, expected: list[tuple[int, ...]]) -> None:
    reply = await door.complete(prompt=prompt)
    assert reply.status_code == 200
    assert [request.prompt for request in door.backend.requests] == expected
    body = reply.json()
    assert [choice["index"] for choice in body["choices"]] == list(range(len(expected)))
    assert body["usage"]["prompt_tokens"] == sum(map(len, expected))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": ["A", 5]}, "prompt"),
        ({"prompt": [5, "A"]}, "prompt"),
        ({"prompt": [N_VOCAB]}, "prompt"),
        ({"prompt": ["A"] * 9}, "prompt"),
        ({"prompt": ["A"] * 3, "n": 3}, "n"),
        ({"prompt": "x" * CONTEXT}, "prompt"),
        ({"echo": True}, "echo"),
        ({"suffix": "x"}, "suffix"),
        ({"best_of": 3}, "best_of"),
        ({"logit_bias": {str(N_VOCAB): 1}}, "logit_bias"),
        ({"logprobs": 6}, "logprobs"),
    ],
)
async def test_bad_requests(door: Door, fields: dict[str, Any], param: str) -> None:
    reply = await door.complete(**fields)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == param
    assert door.backend.requests == []


async def test_length_defaults_to_openais(door: Door) -> None:
    await door.complete(max_tokens=None)
    assert door.backend.requests[0].max_tokens == 16


async def test_events_on_the_wire(door: Door) -> None:
    door.backend.sampler = say("The ", "tide")
    reply = await door.complete(stream=True)
    *events, done, _ = reply.text.split("\n\n")
    assert done == "id: 4\ndata: [DONE]"
    chunks = [json.loads(event.partition("\ndata: ")[2]) for event in events]
    assert [chunk["choices"][0]["text"] for chunk in chunks] == ["The ", "tide", ""]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, "stop"]
    assert all("usage" not in chunk for chunk in chunks)
    assert {chunk["object"] for chunk in chunks} == {"text_completion"}


async def test_logprobs_zero_has_no_candidates(door: Door) -> None:
    door.backend.sampler = say("The ", "tide")
    reply = await door.complete(logprobs=0)
    assert reply.json()["choices"][0]["logprobs"] == {
        "tokens": ["The ", "tide"],
        "token_logprobs": [-0.5, -0.5],
        "top_logprobs": None,
        "text_offset": [0, 4],
    }
