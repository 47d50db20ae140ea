from __future__ import annotations

import msgspec
import pytest

from atoll.engine.channel import Broken
from atoll.engine.chat_template import Turn
from atoll.engine.text_messages import (
    AskChat,
    AskTokens,
    Refusal,
    TextOptions,
    TextReady,
    TextReply,
    TextRequest,
    Tokens,
)


@pytest.mark.parametrize(
    "message",
    [
        TextOptions("/models/a.gguf"),
        AskChat(1, (Turn("user", "hé\n"), Turn("assistant", "")), {"a": "b", "c": 1.5, "d": True}),
        AskTokens(2, "text"),
    ],
)
def test_requests_come_back_as_they_went(message: TextRequest) -> None:
    sent = msgspec.msgpack.encode(message)
    assert msgspec.msgpack.decode(sent, type=TextRequest) == message


@pytest.mark.parametrize(
    "message",
    [
        TextReady(32, True, ("netns", "no seccomp: not permitted")),
        Tokens(3),
        Refusal(4, "problem", "hint", "messages", of_model=True),
        Broken("problem"),
    ],
)
def test_replies_come_back_as_they_went(message: TextReply) -> None:
    sent = msgspec.msgpack.encode(message)
    assert msgspec.msgpack.decode(sent, type=TextReply) == message


def test_a_request_is_not_taken_for_a_reply() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode(AskTokens(1, "x")), type=TextReply)
