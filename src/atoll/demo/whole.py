"""Asks the whole model, in a process of its own, for the tokens that a ring must give."""

from __future__ import annotations

import asyncio
import sys

import msgspec

from atoll.client.api import ChatMessage
from atoll.demo.whole_process import Answer, Question
from atoll.domain.errors import EngineFault
from atoll.engine.text_client import TextProcess
from atoll.store.layout import FoundModel

MODULE = "atoll.demo.whole_process"
COMPUTE_S = 600.0


async def whole_tokens(
    model: FoundModel, messages: list[ChatMessage], max_tokens: int, *, context: int, threads: int
) -> Answer:
    """The whole model's greedy tokens after a chat.

    The chat is rendered and tokenised by the same code as the gateway's.

    Raises:
        AtollError: The chat cannot be rendered, or the model not be run.
    """
    text = await TextProcess.start(model.path)
    try:
        prompt = await text.chat_tokens(messages)
    finally:
        await text.close()
    return await _compute(Question(str(model.path), prompt, max_tokens, context, threads))


async def _compute(question: Question) -> Answer:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", MODULE),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(COMPUTE_S):
            out, said = await process.communicate(msgspec.json.encode(question))
    except TimeoutError:
        raise EngineFault(f"the whole model took more than {COMPUTE_S:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await asyncio.shield(process.wait())
    if process.returncode != 0:
        words = said.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise EngineFault(
            f"the whole model's process ended with {process.returncode}: {' '.join(words)}",
            hint="is there memory enough for the whole model on this machine?",
        )
    return msgspec.json.decode(out, type=Answer)
