"""What the HTTP side needs from the ring and from the text process.

The handlers know nothing of stages, engines or processes: they render a
request into token ids through `TextBackend` and take sampled tokens from
`Backend`. Both are served by other parts of the gateway.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import msgspec

from atoll.domain.generation import GenerateRequest, Sampled

Role = Literal["system", "user", "assistant"]
TemplateValue = str | int | float | bool


@dataclass(frozen=True, slots=True)
class ChatTurn:
    """One message of a chat; OpenAI's `developer` role arrives as `system`."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class ModelCard:
    """The served model as clients see it.

    `context` is the most tokens of prompt and answer together; `n_vocab` the
    number of token ids; `created` seconds since 1970.
    """

    name: str
    created: int
    context: int
    n_vocab: int


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the ring can serve; `reason` is shown to anybody who asks.

    `holds`: it cannot now, but a request that comes waits until it can.
    """

    ready: bool
    reason: str = ""
    holds: bool = False


@dataclass(frozen=True, slots=True)
class Demand:
    """What is known of a request that asks to be let in.

    Args:
        group: Whose it is.
        priority: Before whom it goes where requests wait.
        deadline_s: In how many seconds it is to be done; None: that does not matter.
        requests: What is to be computed; empty where that is not known yet.
    """

    group: str
    priority: int = 0
    deadline_s: float | None = None
    requests: tuple[GenerateRequest, ...] = ()


@dataclass(frozen=True, slots=True)
class StatusSource:
    """What `GET /status` answers to those with a key, and of which type that is."""

    kind: type[msgspec.Struct]
    read: Callable[[], msgspec.Struct]


class TextBackend(Protocol):
    """Text to token ids, off the event loop."""

    async def chat_tokens(
        self, messages: Sequence[ChatTurn], *, extra: Mapping[str, TemplateValue]
    ) -> tuple[int, ...]:
        """Render the model's chat template and tokenise it.

        `extra` are further template variables. The content of a turn is never
        parsed as special tokens.

        Raises:
            BadRequest: The template refuses these messages, or took too much.
        """
        ...

    async def tokens(self, text: str) -> tuple[int, ...]:
        """Tokenise a raw prompt; special tokens in it are never parsed."""
        ...


class Backend(Protocol):
    """The ring: one call is one generation."""

    @property
    def card(self) -> ModelCard:
        """The model that is served."""
        ...

    def health(self) -> Health:
        """Whether a generation could start now; costs nothing."""
        ...

    def check(self, demand: Demand) -> None:
        """Whether a request may come; costs next to nothing.

        Raises:
            Overloaded: No slot is free and the waiting line is full, or by what is foretold
                it would not be done in time.
        """
        ...

    def generate(self, request: GenerateRequest) -> AsyncGenerator[Sampled, None]:
        """Yield sampled tokens up to one with `finish`; `aclose` cancels at once.

        Raises:
            DeadlineExceeded: Its time is over.
            Overloaded: No slot is free and the waiting line is full.
            RingDown: A node is missing or died.
            BadRequest: The request cannot be served as it stands.
        """
        ...
