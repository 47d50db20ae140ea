"""What a conversation keeps."""

from __future__ import annotations

import asyncio

import pytest
from tests.client.conftest import Gateway
from tests.support.scripted import MODEL, fail, flood, say

from atoll.client.api import ApiFault, ChatMessage, ChatOptions
from atoll.client.chat import Conversation, choose_model
from atoll.domain.errors import RingDown

pytestmark = pytest.mark.network


async def test_turns_add_up(gateway: Gateway) -> None:
    talk = Conversation(MODEL, "Be a gull.", ChatOptions(max_tokens=9))
    shown: list[str] = []
    gateway.backend.sampler = say("Kree", "!")
    answer = await talk.ask(gateway.client, "Hello", shown.append)
    assert answer.text == "".join(shown) == "Kree!"
    assert answer.finish == "stop"
    assert answer.usage is not None
    await talk.ask(gateway.client, "Again", shown.append)
    assert talk.messages == [
        ChatMessage("user", "Hello"),
        ChatMessage("assistant", "Kree!"),
        ChatMessage("user", "Again"),
        ChatMessage("assistant", "Kree!"),
    ]
    # Both turns, and the system's message in front, were in the second prompt.
    first, second = gateway.backend.requests
    assert len(second.prompt) > len(first.prompt)
    assert bytes(t - 1 for t in second.prompt).decode() == (
        "system:Be a gull.;user:Hello;assistant:Kree!;user:Again;"
    )


async def test_a_turn_that_failed_leaves_no_trace(gateway: Gateway) -> None:
    talk = Conversation(MODEL)
    gateway.backend.sampler = fail(RingDown("gone"), "half an")
    with pytest.raises(ApiFault):
        await talk.ask(gateway.client, "Hello", lambda _text: None)
    assert talk.messages == []


async def test_a_stopped_answer_is_kept_as_far_as_it_came(gateway: Gateway) -> None:
    gateway.backend.sampler = flood
    talk = Conversation(MODEL)
    started = asyncio.Event()

    async def ask() -> None:
        await talk.ask(gateway.client, "Hello", lambda text: started.set() if text else None)

    async with asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(ask(), name="ask")
        async with asyncio.timeout(10):
            await started.wait()
        asking.cancel()
    assert [message.role for message in talk.messages] == ["user", "assistant"]
    assert talk.messages[1].content.startswith("x")
    async with asyncio.timeout(10):
        await gateway.backend.all_closed.wait()


async def test_the_model_is_the_one_asked_for_or_the_first(gateway: Gateway) -> None:
    assert await choose_model(gateway.client, "other") == "other"
    assert await choose_model(gateway.client, None) == MODEL
