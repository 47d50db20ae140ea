"""The draft process by its messages alone."""

from __future__ import annotations

import msgspec
import pytest

from atoll.domain.errors import EngineFault
from atoll.engine.child import EngineChild
from atoll.engine.draft_messages import DraftDone, DraftLoaded, DraftReply, RunDraft
from atoll.engine.ends_messages import Close

pytestmark = pytest.mark.engine


async def say(first: msgspec.Struct) -> None:
    decoder = msgspec.msgpack.Decoder(DraftReply)
    child = EngineChild[DraftLoaded | DraftDone](
        "draft process", decoder, lambda _reply, _payload: None, lambda _fault: None
    )
    try:
        await child.start("atoll.engine.draft_process", first, memory_bytes=None, env={})
    finally:
        await child.close()


async def test_work_before_loading_is_refused() -> None:
    with pytest.raises(EngineFault, match="before it was loaded"):
        await say(RunDraft(1, ()))


async def test_a_message_of_another_process_is_refused() -> None:
    with pytest.raises(EngineFault, match="bad message"):
        await say(Close(0))
