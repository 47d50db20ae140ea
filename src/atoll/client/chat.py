"""A conversation: what was said so far, and the next answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

from atoll.client.api import ApiClient, ApiFault, ChatMessage, ChatOptions, Part
from atoll.client.replies import Usage


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that came to its end; `usage` where the server told it."""

    text: str
    finish: str
    usage: Usage | None


@dataclass(slots=True)
class Conversation:
    """Messages so far. A turn that failed leaves no trace; one that was stopped stays."""

    model: str
    system: str = ""
    options: ChatOptions = field(default_factory=ChatOptions)
    messages: list[ChatMessage] = field(default_factory=list)

    async def ask(self, client: ApiClient, text: str, show: Callable[[str], None]) -> Answer:
        """Say `text`, stream the answer's text to `show`, and return it.

        Cancelling this stops the generation; what came until then is kept.

        Raises:
            ApiFault: The request failed.
        """
        asked = ChatMessage("user", text)
        said: list[str] = []
        finish, usage = "", None
        failed = False
        try:
            async with aclosing(self._stream(client, asked)) as parts:
                async for part in parts:
                    said.append(part.text)
                    finish, usage = part.finish or finish, part.usage or usage
                    show(part.text)
        except ApiFault:
            failed = True
            raise
        finally:
            if not failed and any(said):
                self.messages += [asked, ChatMessage("assistant", "".join(said))]
        return Answer("".join(said), finish, usage)

    async def _stream(self, client: ApiClient, asked: ChatMessage) -> AsyncGenerator[Part, None]:
        system = [ChatMessage("system", self.system)] if self.system else []
        async with aclosing(
            client.chat(self.model, [*system, *self.messages, asked], self.options)
        ) as parts:
            async for part in parts:
                yield part


async def choose_model(client: ApiClient, asked: str | None) -> str:
    """The model asked for, or the first that is served.

    Raises:
        ApiFault: The request failed, or nothing is served.
    """
    if asked is not None:
        return asked
    served = await client.models()
    if not served:
        raise ApiFault(f"{client.endpoint.url} serves no model", hint="name another --url")
    return served[0]
