"""A real server on a loopback port, before the scripted ring."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import uvicorn.server
from tests.support.scripted import MODEL, ScriptedBackend, ScriptedText

from atoll.api.app import create_app
from atoll.api.keeper import Keeper, StreamKeeping, open_keeper
from atoll.api.keys import KeyStore
from atoll.api.limits import Limits
from atoll.api.server import open_server, open_socket


@dataclass
class Door:
    """A running server and clients that hold a valid key."""

    url: str
    http: httpx.AsyncClient
    client: openai.AsyncOpenAI
    keys: KeyStore
    secret: str
    backend: ScriptedBackend
    text: ScriptedText
    name: str
    keeper: Keeper | None
    said: list[str]

    async def chat(self, **fields: Any) -> httpx.Response:
        asked: dict[str, Any] = {
            "model": MODEL,
            "messages": [{"role": "user", "content": "Where does the tide go?"}],
            "max_tokens": 8,
        }
        return await self.http.post("/v1/chat/completions", json=asked | fields)

    async def complete(self, **fields: Any) -> httpx.Response:
        asked: dict[str, Any] = {"model": MODEL, "prompt": "The tide", "max_tokens": 8}
        return await self.http.post("/v1/completions", json=asked | fields)


@dataclass
class Doors:
    """Opens servers; all are closed at the end of the test."""

    folder: Path
    stack: AsyncExitStack
    n_opened: int = field(default=0)
    servers: dict[str, AsyncExitStack] = field(default_factory=dict)

    async def open(
        self,
        *,
        limits: Limits | None = None,
        auth: bool = True,
        grace_s: int = 1,
        keep: StreamKeeping | None = None,
        again: Door | None = None,
    ) -> Door:
        """A server; `again`: with the keys and the streams of an earlier one."""
        backend, text = ScriptedBackend(), ScriptedText()
        self.n_opened += 1
        name = again.name if again else str(self.n_opened)
        keys = KeyStore(self.folder / f"keys-{name}.json")
        secret = again.secret if again else keys.create("test").secret
        said: list[str] = []
        keeper = await self.stack.enter_async_context(
            open_keeper(
                self.folder / f"streams-{name}",
                "model",
                keep or StreamKeeping(),
                tell=said.append,
            )
        )
        app = create_app(backend, text, keys=keys if auth else None, limits=limits, keeper=keeper)
        server = AsyncExitStack()
        url = await server.enter_async_context(
            open_server(app, open_socket("127.0.0.1", 0), limits=limits, grace_s=grace_s)
        )
        self.stack.push_async_exit(server)
        self.servers[url] = server
        http = await self.stack.enter_async_context(
            httpx.AsyncClient(
                base_url=url, headers={"authorization": f"Bearer {secret}"}, timeout=20
            )
        )
        client = await self.stack.enter_async_context(
            openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=secret, max_retries=0, timeout=20)
        )
        return Door(url, http, client, keys, secret, backend, text, name, keeper, said)

    async def close_server(self, door: Door) -> None:
        """Leave the server's block early."""
        await self.servers[door.url].aclose()


class _Brisk:
    """asyncio, but for sleeps of a hundredth of a second at most."""

    @staticmethod
    async def sleep(delay_s: float) -> None:
        await asyncio.sleep(min(delay_s, 0.01))

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)


@pytest.fixture
async def doors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Doors]:
    # uvicorn sleeps a tenth of a second at every end; these tests end some two hundred servers.
    monkeypatch.setattr(uvicorn.server, "asyncio", _Brisk())
    async with AsyncExitStack() as stack:
        yield Doors(tmp_path, stack)


@pytest.fixture
async def door(doors: Doors) -> Door:
    return await doors.open()
