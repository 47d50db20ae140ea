"""The whole model asked in a process of its own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.support.children import new_children

from atoll.client.api import ChatMessage
from atoll.demo.whole import whole_tokens
from atoll.domain.errors import AtollError
from atoll.domain.ids import ModelId
from atoll.store.layout import FoundModel

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("own_children")]

MESSAGES = [ChatMessage("user", "Name three colors.")]


def _found(path: Path) -> FoundModel:
    return FoundModel(ModelId("0" * 64), path, "demo")


async def test_the_chat_is_rendered_as_the_gateway_does(demo_model: Path) -> None:
    answer = await whole_tokens(_found(demo_model), MESSAGES, 16, context=256, threads=1)
    assert len(answer.pieces) == 16
    assert b"Red" in b"".join(answer.pieces)


async def test_a_process_that_fails_says_why(demo_model: Path) -> None:
    with pytest.raises(AtollError, match="the whole model's process ended with"):
        await whole_tokens(_found(demo_model), MESSAGES, 400, context=64, threads=1)


async def test_cancelling_leaves_no_process(demo_model: Path) -> None:
    async with asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(
            whole_tokens(_found(demo_model), MESSAGES, 2000, context=2048, threads=1),
            name="ask",
        )
        await asyncio.sleep(2)
        asking.cancel()
    assert new_children() == []
