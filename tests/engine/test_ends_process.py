"""The ends process by its messages alone."""

from __future__ import annotations

import msgspec
import pytest

from atoll.domain.errors import EngineFault
from atoll.domain.generation import GenerateRequest
from atoll.engine.child import EngineChild
from atoll.engine.ends_messages import (
    Close,
    EndsLoaded,
    EndsReply,
    Head,
    ItemsDone,
    Open,
    RunItems,
)
from atoll.engine.stage_messages import Drop

pytestmark = pytest.mark.engine


async def say(first: msgspec.Struct) -> EndsLoaded | ItemsDone:
    decoder = msgspec.msgpack.Decoder(EndsReply)
    child = EngineChild[EndsLoaded | ItemsDone](
        "ends process", decoder, lambda _reply, _payload: None, lambda _fault: None
    )
    try:
        return await child.start("atoll.engine.ends_process", first, memory_bytes=None, env={})
    finally:
        await child.close()


@pytest.mark.parametrize(
    "first",
    [
        RunItems(1, (Head(0, 0, True, "f32", (1,)),)),
        Open(0, GenerateRequest((1,), 1)),
        Close(0),
    ],
)
async def test_work_before_loading_is_refused(first: msgspec.Struct) -> None:
    with pytest.raises(EngineFault, match="before they were loaded"):
        await say(first)


async def test_a_message_of_another_process_is_refused() -> None:
    with pytest.raises(EngineFault, match="bad message"):
        await say(Drop(0))
