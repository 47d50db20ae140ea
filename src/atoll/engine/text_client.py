"""The gateway's handle on its text process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np

from atoll.domain.errors import BadModel, BadRequest, EngineFault, Overloaded
from atoll.engine.chat_template import Extra, Turn
from atoll.engine.child import EngineChild
from atoll.engine.library import LIBRARY_VARIABLE
from atoll.engine.text_messages import (
    AskChat,
    AskTokens,
    Refusal,
    TextOptions,
    TextReady,
    TextReply,
    Tokens,
)

log = logging.getLogger(__name__)

MODULE = "atoll.engine.text_process"
MEMORY_BYTES = 1024 * 1024 * 1024
"""Address space. With SmolLM2's 49,152 tokens 160 MiB are used at the start and
300 MiB after a prompt of a million characters; vocabularies of 262,144 tokens
exist, and a long chat is rendered twice."""
PACKAGED_ENGINE = {LIBRARY_VARIABLE: ""}
"""A vocabulary needs no GPU, and libraries for one take more than that to open."""
TEXT_BYTES_MAX = 2 * 1024 * 1024
WAITING_MAX = 64
START_S = 60.0
REQUEST_S = 15.0
"""By the clock; the process bounds its processor time itself, far below this."""

_MakeAsk = Callable[[int], AskChat | AskTokens]
_TextChild = EngineChild[TextReady | Tokens | Refusal]


class Message(Protocol):
    """One message of a chat: anything with a role and a content."""

    @property
    def role(self) -> str:
        """One of `chat_template.ROLES`."""
        ...

    @property
    def content(self) -> str:
        """What was said."""
        ...


class TextProcess:
    """Chats and texts to token ids, in a process of its own.

    Requests are worked off one after the other. One that breaks the process
    fails alone: the next finds a new process.
    """

    def __init__(self, path: Path, *, memory_bytes: int = MEMORY_BYTES) -> None:
        self._path, self._memory_bytes = path, memory_bytes
        self._child: _TextChild | None = None
        self._dead: list[_TextChild] = []
        self._ready: TextReady | None = None
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._number = 0
        self._answer: asyncio.Future[tuple[Tokens | Refusal, bytes]] | None = None
        self._closed = False

    @classmethod
    async def start(cls, path: Path, *, memory_bytes: int = MEMORY_BYTES) -> TextProcess:
        """Start the process for the model at `path`.

        Raises:
            EngineFault: It cannot be started, or cannot load the vocabulary.
        """
        process = cls(path, memory_bytes=memory_bytes)
        await process._running()
        return process

    @property
    def pid(self) -> int | None:
        """The process id; None while there is none."""
        return self._child.pid if self._child else None

    @property
    def isolation(self) -> tuple[str, ...]:
        """Which measures of confinement hold (`engine.confine`)."""
        return self._ready.isolation if self._ready else ()

    @property
    def has_template(self) -> bool:
        """Whether the model has a chat template."""
        return self._ready is not None and self._ready.has_template

    async def chat_tokens(
        self, messages: Sequence[Message], *, extra: Mapping[str, Extra] | None = None
    ) -> tuple[int, ...]:
        """Render the model's chat template and tokenise it, ready for an answer.

        What users wrote never becomes a control token.

        Raises:
            BadRequest: The template refuses these messages, or takes too much.
            BadModel: The model's template is broken.
            Overloaded: Too many requests wait.
            EngineFault: The process died of this request, or cannot be started.
        """
        turns = tuple(Turn(message.role, message.content) for message in messages)
        _check_size([turn.content for turn in turns], "messages")
        return await self._ask(lambda number: AskChat(number, turns, dict(extra or {})))

    async def tokens(self, text: str) -> tuple[int, ...]:
        """Tokenise a text; no control token is found in it. Raises as `chat_tokens`."""
        _check_size([text], "prompt")
        return await self._ask(lambda number: AskTokens(number, text))

    async def close(self) -> None:
        """End the process; requests that wait fail."""
        self._closed = True
        self._fail(EngineFault("the text process was closed"))
        await self._drop_child()

    async def _ask(self, make: _MakeAsk) -> tuple[int, ...]:
        if self._waiting >= WAITING_MAX:
            raise Overloaded(
                f"{WAITING_MAX} prompts wait to be prepared", retry_after_s=1, hint="try again"
            )
        self._waiting += 1
        try:
            async with self._turn:
                reply, payload = await self._exchange(make)
        finally:
            self._waiting -= 1
        if isinstance(reply, Tokens):
            return tuple(np.frombuffer(payload, "<i4").tolist())
        if reply.of_model:
            raise BadModel(reply.problem, hint=reply.hint)
        raise BadRequest(reply.problem, hint=reply.hint, param=reply.param)

    async def _exchange(self, make: _MakeAsk) -> tuple[Tokens | Refusal, bytes]:
        child = await self._running()
        # Answers to numbers that nobody waits for any more are dropped.
        self._number += 1
        self._answer = asyncio.get_running_loop().create_future()
        child.send(make(self._number))
        try:
            async with asyncio.timeout(REQUEST_S):
                return await self._answer
        except TimeoutError:
            await self._drop_child()
            raise EngineFault(
                f"the text process did not answer within {REQUEST_S:.0f} s", hint="try again"
            ) from None
        finally:
            self._answer = None

    async def _running(self) -> _TextChild:
        if self._closed:
            raise EngineFault("the text process is closed")
        if self._child is not None:
            return self._child
        await self._bury()
        decoder = msgspec.msgpack.Decoder(TextReply)
        child = _TextChild("text process", decoder, self._take, self._fail)
        try:
            async with asyncio.timeout(START_S):
                ready = await child.start(
                    MODULE,
                    TextOptions(str(self._path)),
                    memory_bytes=self._memory_bytes,
                    env=PACKAGED_ENGINE,
                )
            if not isinstance(ready, TextReady):
                raise EngineFault("the text process answered out of turn")
        except TimeoutError:
            await child.close()
            raise EngineFault(f"the text process was not ready within {START_S:.0f} s") from None
        except BaseException:
            await child.close()
            raise
        self._child, self._ready = child, ready
        log.info("text.started pid=%s", child.pid)
        return child

    def _take(self, reply: TextReady | Tokens | Refusal, payload: bytes) -> None:
        if isinstance(reply, TextReady):
            raise EngineFault("the text process answered out of turn")
        waited_for = self._answer is not None and not self._answer.done()
        if waited_for and self._answer is not None and reply.number == self._number:
            self._answer.set_result((reply, payload))

    def _fail(self, fault: EngineFault) -> None:
        """The process is gone; the next request starts another."""
        if self._child is not None and not self._closed:
            log.warning("text.died pid=%s reason=%r", self._child.pid, fault.problem)
            self._dead.append(self._child)
            self._child = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(fault)

    async def _drop_child(self) -> None:
        if self._child is not None:
            self._dead.append(self._child)
            self._child = None
        await self._bury()

    async def _bury(self) -> None:
        """End what is still there of processes that are no longer used."""
        while self._dead:
            await self._dead[-1].close()
            self._dead.pop()


def _check_size(texts: Sequence[str], param: str) -> None:
    try:
        size = sum(len(text.encode()) for text in texts)
    except UnicodeEncodeError:
        raise BadRequest(
            "the text is not Unicode: it holds half of a surrogate pair", param=param
        ) from None
    if size > TEXT_BYTES_MAX:
        raise BadRequest(
            f"the text has {size} bytes, more than {TEXT_BYTES_MAX}",
            hint="shorten it",
            param=param,
        )
