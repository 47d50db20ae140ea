from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest
from tests.support.small_vocabularies import with_template

from atoll.engine.channel import Broken, ChildChannel
from atoll.engine.chat_template import Turn
from atoll.engine.process import spawn_confined
from atoll.engine.text_messages import (
    AskChat,
    AskTokens,
    Refusal,
    TextOptions,
    TextReady,
    TextReply,
    Tokens,
)

pytestmark = pytest.mark.engine
Channel = ChildChannel[TextReady | Tokens | Refusal | Broken]


@asynccontextmanager
async def process(model: Path | None, memory_mib: int = 1024) -> AsyncIterator[Channel]:
    """A real text process at the other end of a channel; loaded if a model is named."""
    ours, theirs = socket.socketpair()
    ours.settimeout(60)
    child = await spawn_confined(
        "atoll.engine.text_process", theirs, name="text process", memory_bytes=memory_mib << 20
    )
    channel = Channel(ours, msgspec.msgpack.Decoder(TextReply))
    try:
        if model is not None:
            channel.send(TextOptions(str(model)))
            assert isinstance(answer(channel)[0], TextReady)
        yield channel
    finally:
        ours.close()
        assert "exit code" in await child.close(grace_s=20), "it ends when the parent is gone"


def answer(channel: Channel) -> tuple[TextReady | Tokens | Refusal | Broken, bytes]:
    received = channel.receive()
    assert received is not None, "the process died"
    return received


def refusal(channel: Channel, template_sees: str = "x") -> Refusal:
    channel.send(AskChat(7, (Turn("user", template_sees),), {}))
    reply, payload = answer(channel)
    assert isinstance(reply, Refusal)
    assert reply.number == 7
    assert payload == b""
    return reply


async def test_tokens_come_as_int32(demo_model: Path) -> None:
    async with process(demo_model) as channel:
        channel.send(AskTokens(1, "Hello world"))
        channel.send(AskTokens(2, ""))
        reply, payload = answer(channel)
        assert reply == Tokens(1)
        assert np.frombuffer(payload, "<i4").tolist() == [19556, 905]
        assert answer(channel) == (Tokens(2), b"")


async def test_work_before_loading_is_a_fault() -> None:
    async with process(None) as channel:
        channel.send(AskTokens(1, "x"))
        reply, _ = answer(channel)
        assert isinstance(reply, Broken)
        assert "before it was loaded" in reply.problem


async def test_a_model_that_cannot_be_loaded_is_told(tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"not a model")
    for path in (bad, tmp_path / "missing.gguf"):
        async with process(None) as channel:
            channel.send(TextOptions(str(path)))
            reply, _ = answer(channel)
            assert isinstance(reply, Broken)
            assert "cannot load" in reply.problem


@pytest.mark.parametrize(
    ("template", "what"),
    [
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "time"),
        ("{{ 'a' | center(10 ** 9) | center(2 * 10 ** 9) }}", "too much"),
        ("{{ messages[0].content | center(8 * 10 ** 9) }}", "too much"),
        ("{% set n = namespace(x='aaaaaaaa') %}{% for i in range(60) %}"
         "{% set n.x = n.x ~ n.x %}{% endfor %}", "too much"),
    ],
)  # fmt: skip
async def test_a_template_that_eats_the_machine(
    demo_model: Path, tmp_path: Path, template: str, what: str
) -> None:
    path = with_template(demo_model, template, tmp_path / "hostile.gguf")
    async with process(path) as channel:
        reply = refusal(channel)
        assert what in reply.problem
        assert not reply.of_model
        channel.send(AskTokens(8, "Hello"))
        served, payload = answer(channel)
        assert served == Tokens(8)
        assert np.frombuffer(payload, "<i4").tolist() == [19556]


async def test_a_broken_template_is_the_models_fault(demo_model: Path, tmp_path: Path) -> None:
    path = with_template(demo_model, "{{ ''.__class__.mro() }}", tmp_path / "hostile.gguf")
    async with process(path) as channel:
        reply = refusal(channel)
        assert reply.of_model
        assert "sandbox" in reply.problem


async def test_a_refusal_names_the_field(demo_model: Path, tmp_path: Path) -> None:
    template = "{{ raise_exception('no ' ~ messages[0].role) }}"
    path = with_template(demo_model, template, tmp_path / "refuses.gguf")
    async with process(path) as channel:
        reply = refusal(channel)
        assert reply.problem.endswith("refuses these messages: no user")
        assert reply.param == "messages"
