"""Answers whose connection breaks, before the gateway's real web server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path

import pytest
from tests.client.conftest import STATUS
from tests.support.scripted import MODEL, ScriptedBackend, ScriptedText, fail, say

from atoll.api.app import create_app
from atoll.api.backend import StatusSource
from atoll.api.keeper import StreamKeeping, open_keeper
from atoll.api.keys import KeyStore
from atoll.api.server import open_server, open_socket
from atoll.client import resuming
from atoll.client.api import ApiClient, ApiFault, ChatMessage
from atoll.client.endpoint import Endpoint
from atoll.domain.errors import EngineFault, RingDown

pytestmark = pytest.mark.network

HELLO = [ChatMessage("user", "Hello")]
WORDS = [
    f" {word}" for word in ("the", "tide", "comes", "in", "and", "goes", "out", "again", "today")
]


class Case:
    """A gateway that may be started anew, behind a connection that may be cut."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keys = KeyStore(folder / "keys.json")
        self.backend = ScriptedBackend(say(*WORDS))
        self.secret = self.keys.create("test").secret
        self.said: list[str] = []

    @asynccontextmanager
    async def serve(self, seconds: float = 600) -> AsyncIterator[str]:
        keeping = StreamKeeping(seconds)
        async with open_keeper(self.folder / "s", "m", keeping, tell=print) as keeper:
            app = create_app(
                self.backend,
                ScriptedText(),
                keys=self.keys,
                keeper=keeper,
                status=StatusSource(type(STATUS), lambda: STATUS),
            )
            async with open_server(app, open_socket("127.0.0.1", 0), grace_s=0) as url:
                yield url

    async def ask(self, url: str, renew: Callable[[], Endpoint] | None = None) -> list[str]:
        endpoint = Endpoint.at(url, self.secret)
        async with (
            asyncio.timeout(20),
            ApiClient(endpoint, renew=renew, tell=self.said.append) as client,
            aclosing(client.chat(MODEL, HELLO)) as parts,
        ):
            return [part.text async for part in parts if part.text]


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    monkeypatch.setattr(resuming, "FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(resuming, "PAUSE_MAX_S", 0.1)
    return Case(tmp_path)


@asynccontextmanager
async def cutting(url: str, *after_bytes: int) -> AsyncIterator[str]:
    """A way to the server that breaks: the k-th connection after so many bytes of answer."""
    host, port = url.removeprefix("http://").split(":")
    left = list(after_bytes)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        budget = left.pop(0) if left else 1 << 30
        there, away = await asyncio.open_connection(host, int(port))

        async def forth() -> None:
            while data := await reader.read(65536):
                away.write(data)

        tasks.add(asyncio.get_running_loop().create_task(forth()))
        try:
            while budget > 0 and (data := await there.read(min(budget, 65536))):
                budget -= len(data)
                writer.write(data)
            await writer.drain()
        finally:
            for end in (writer, away):
                end.transport.abort()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.get_running_loop().create_task(serve(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


@pytest.mark.parametrize("after", [500, 700, 1003, 2000])
async def test_an_answer_goes_on_over_the_next_connection(case: Case, after: int) -> None:
    async with case.serve() as url, cutting(url, after, 1100, 900) as way:
        assert await case.ask(way) == WORDS
    assert "trying to go on with the answer" in case.said[0]
    assert "goes on" not in "".join(case.said)


async def test_a_connection_that_breaks_before_the_answer_is_no_answer(case: Case) -> None:
    async with case.serve() as url, cutting(url, 10, 10) as way:
        with pytest.raises(ApiFault, match="connection"):
            await case.ask(way)
    assert case.said == []


async def test_a_ring_that_breaks_and_comes_back(case: Case) -> None:
    whole = case.backend.sampler
    case.backend.sampler = fail(RingDown("a node is gone"), *WORDS[:3])
    async with case.serve() as url:
        asking = asyncio.get_running_loop().create_task(case.ask(url))
        async with asyncio.timeout(10):
            while not case.said:
                await asyncio.sleep(0.01)
        case.backend.sampler = whole
        assert await asking == WORDS
    assert "a node is gone" in case.said[0]


async def test_an_error_that_stays_is_the_end(case: Case) -> None:
    case.backend.sampler = fail(EngineFault("the engine's process died"), *WORDS[:3])
    async with case.serve() as url:
        with pytest.raises(ApiFault, match="engine"):
            await case.ask(url)
    assert case.said == []


async def test_a_server_that_keeps_nothing(case: Case) -> None:
    async with case.serve(seconds=0) as url, cutting(url, 900) as way:
        with pytest.raises(ApiFault, match="connection"):
            await case.ask(way)
    assert case.said == []


async def test_it_gives_up_in_the_end(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resuming, "GIVE_UP_S", 0.3)
    async with case.serve() as url, cutting(url, 900, *[10] * 1000) as way:
        with pytest.raises(ApiFault, match="connection"):
            await case.ask(way)
    assert len(case.said) == 1


async def test_a_stream_that_is_gone_is_told_by_what_broke(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with case.serve(seconds=0.05) as url, cutting(url, 900) as way:
        monkeypatch.setattr(resuming, "FIRST_PAUSE_S", 1.0)
        with pytest.raises(ApiFault, match="connection"):
            await case.ask(way)


async def test_a_gateway_elsewhere_with_another_key(case: Case) -> None:
    """As one of this machine is after a restart: its key and perhaps its port are new."""
    at = [Endpoint.at("http://127.0.0.1:1")]
    asked = 0

    def renew() -> Endpoint:
        nonlocal asked
        asked += 1
        # The first times the old place is still what is written there.
        return at[-1] if asked > 2 else at[0]

    async with AsyncExitStack() as later, case.serve() as url, cutting(url, 1000) as way:
        at = [Endpoint.at(way, case.secret)]
        old = case.keys.list()[0].id
        asking = asyncio.get_running_loop().create_task(case.ask(way, renew))
        async with asyncio.timeout(10):
            while not case.said:
                await asyncio.sleep(0.01)
        case.keys.revoke("test")
        case.secret = case.keys.create("again", key_id=old).secret
        second = await later.enter_async_context(case.serve())
        at.append(Endpoint.at(second, case.secret))
        assert await asking == WORDS
    assert asked > 2
