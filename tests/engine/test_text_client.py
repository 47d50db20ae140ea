from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.small_vocabularies import with_template

from atoll.domain.errors import BadModel, BadRequest, EngineFault, Overloaded
from atoll.engine import text_client
from atoll.engine.chat_template import Turn
from atoll.engine.text_client import TextProcess

pytestmark = pytest.mark.engine
HELLO = (Turn("user", "Hello"),)
SLOW = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


@pytest.fixture
async def text(demo_model: Path) -> AsyncIterator[TextProcess]:
    process = await TextProcess.start(demo_model)
    yield process
    await process.close()


async def test_chat_and_text(text: TextProcess) -> None:
    assert text.has_template
    if sys.platform.startswith("linux"):
        assert {"rlimit_as", "no_new_privs"} <= set(text.isolation)
    assert await text.tokens("Hello world") == (19556, 905)
    ids = await text.chat_tokens(HELLO)
    assert ids[0] == 1
    assert 19556 in ids
    with pytest.raises(BadRequest, match="cannot be set"):
        await text.chat_tokens(HELLO, extra={"messages": "x"})
    assert await text.chat_tokens(HELLO, extra={"enable_thinking": False}) == ids


async def test_many_at_once_each_get_their_own(text: TextProcess) -> None:
    async def one(i: int) -> None:
        assert await text.tokens("a" * i) == await text.tokens("a" * i)
        with pytest.raises(BadRequest, match="role"):
            await text.chat_tokens([Turn(f"role-{i}", "x")])

    async with asyncio.TaskGroup() as tasks:
        for i in range(20):
            tasks.create_task(one(i), name=f"ask-{i}")


async def test_the_waiting_line_is_bounded(
    text: TextProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_client, "WAITING_MAX", 3)
    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(text.tokens("x " * 20_000), name=f"{i}") for i in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded) as caught:
            await text.tokens("one too many")
        assert caught.value.retry_after_s > 0
    assert len({task.result() for task in asked}) == 1
    assert await text.tokens("room again")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGABRT])
async def test_a_death_costs_one_request(
    demo_model: Path, tmp_path: Path, how: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    path = with_template(demo_model, SLOW, tmp_path / "slow.gguf")
    text = await TextProcess.start(path)
    try:
        async with asyncio.TaskGroup() as tasks:
            asked = tasks.create_task(_fault_of(text), name="asked")
            behind = tasks.create_task(text.tokens("Hello"), name="behind")
            await asyncio.sleep(0.2)
            first = text.pid
            assert first is not None
            os.kill(first, how)
        assert f"text process was killed by signal {int(how)}" in asked.result()
        assert behind.result() == (19556,)
        assert text.pid not in (None, first)
        assert "text.died" in caplog.text
    finally:
        await text.close()


async def _fault_of(text: TextProcess) -> str:
    with pytest.raises(EngineFault) as caught:
        await text.chat_tokens(HELLO)
    return caught.value.problem


async def test_a_death_between_requests_costs_none(text: TextProcess) -> None:
    first = text.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    async with asyncio.timeout(20):
        while text.pid is not None:
            await asyncio.sleep(0.01)
    assert await text.tokens("Hello") == (19556,)
    assert text.pid != first


async def test_a_hung_process_is_replaced(
    text: TextProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_client, "REQUEST_S", 0.5)
    monkeypatch.setattr("atoll.engine.child.CLOSE_S", 0.3)
    first = text.pid
    assert first is not None
    os.kill(first, signal.SIGSTOP)
    with pytest.raises(EngineFault, match="did not answer"):
        await text.tokens("Hello")
    monkeypatch.setattr(text_client, "REQUEST_S", 15.0)
    assert await text.tokens("Hello") == (19556,)
    assert not Path(f"/proc/{first}").exists()


async def test_a_request_given_up_leaves_no_trace(text: TextProcess) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.005):
            await text.tokens("some words " * 30_000)
    assert await text.tokens("Hello world") == (19556, 905)
    assert await text.tokens("Hello") == (19556,)


async def test_the_loop_goes_on_meanwhile(demo_model: Path, tmp_path: Path) -> None:
    path = with_template(demo_model, SLOW, tmp_path / "slow.gguf")
    text = await TextProcess.start(path)
    longest, done = 0.0, asyncio.Event()

    async def watch() -> None:
        nonlocal longest
        loop = asyncio.get_running_loop()
        while not done.is_set():
            before = loop.time()
            await asyncio.sleep(0.01)
            longest = max(longest, loop.time() - before)

    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(watch(), name="watch")
            with pytest.raises(BadRequest, match="processor time"):
                await text.chat_tokens(HELLO)
            done.set()
        assert longest < 0.5
    finally:
        await text.close()


@pytest.mark.parametrize(
    ("content", "match"),
    [("x" * (text_client.TEXT_BYTES_MAX + 1), "bytes, more than"), ("a\ud800", "surrogate")],
)
async def test_bad_text_is_refused_here(text: TextProcess, content: str, match: str) -> None:
    with pytest.raises(BadRequest, match=match) as caught:
        await text.chat_tokens([Turn("user", content)])
    assert caught.value.param == "messages"
    with pytest.raises(BadRequest, match=match) as caught:
        await text.tokens(content)
    assert caught.value.param == "prompt"


async def test_a_bad_template_is_a_bad_model(demo_model: Path, tmp_path: Path) -> None:
    text = await TextProcess.start(with_template(demo_model, "{% if %}", tmp_path / "m.gguf"))
    with pytest.raises(BadModel, match="template is broken"):
        await text.chat_tokens(HELLO)
    assert await text.tokens("Hello") == (19556,)
    await text.close()


async def test_a_model_that_cannot_be_loaded_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(EngineFault, match="cannot load"):
        await TextProcess.start(tmp_path / "missing.gguf")


async def test_closing_fails_what_waits(demo_model: Path) -> None:
    text = await TextProcess.start(demo_model)
    pid = text.pid
    async with asyncio.TaskGroup() as tasks:
        asked = [
            tasks.create_task(_closed(text), name="asked"),
            tasks.create_task(_closed(text), name="behind"),
        ]
        await asyncio.sleep(0)
        await text.close()
    assert len(asked) == 2
    assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(EngineFault, match="closed"):
        await text.tokens("x")
    await text.close()


async def _closed(text: TextProcess) -> None:
    with pytest.raises(EngineFault, match="closed"):
        await text.tokens("word " * 50_000)
