"""What is said between the gateway and its text process (`engine.channel`)."""

from __future__ import annotations

import msgspec

from atoll.engine.channel import Broken
from atoll.engine.chat_template import Extra, Turn


class TextOptions(msgspec.Struct, frozen=True, tag="text_options"):
    """The first message: which model's vocabulary and template to load."""

    path: str


class AskChat(msgspec.Struct, frozen=True, tag="ask_chat"):
    """Render a chat and tokenise it."""

    number: int
    turns: tuple[Turn, ...]
    extra: dict[str, Extra]


class AskTokens(msgspec.Struct, frozen=True, tag="ask_tokens"):
    """Tokenise a text."""

    number: int
    text: str


class TextReady(msgspec.Struct, frozen=True, tag="text_ready"):
    """The answer to `TextOptions`."""

    n_vocab: int
    has_template: bool
    isolation: tuple[str, ...]


class Tokens(msgspec.Struct, frozen=True, tag="tokens"):
    """The answer to request `number`; the payload is its token ids, int32 little-endian."""

    number: int


class Refusal(msgspec.Struct, frozen=True, tag="refusal"):
    """Request `number` cannot be served; the next one can.

    `of_model` says that the model file is to blame, not the request.
    """

    number: int
    problem: str
    hint: str = ""
    param: str | None = None
    of_model: bool = False


TextRequest = TextOptions | AskChat | AskTokens
TextReply = TextReady | Tokens | Refusal | Broken
