"""A gateway's life; as a process it is tested with `atoll serve`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.conftest import MakeModel

from atoll.api.keys import KEYS_FILE, KeyStore
from atoll.api.server import BadBind
from atoll.client.api import ApiClient
from atoll.client.endpoint import Endpoint
from atoll.gateway.options import RingOptions, ServeOptions
from atoll.gateway.run import LOCAL_KEY_NAME, Callbacks, local_url, run_gateway
from atoll.gateway.run_file import read_run_file
from atoll.gateway.serve import Gateway
from atoll.net.home import HomeInUse, held_home
from atoll.store.layout import FoundModel, Store


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://127.0.0.1:8642", "http://127.0.0.1:8642"),
        ("https://0.0.0.0:8642", "https://127.0.0.1:8642"),
        ("https://[::]:8642", "https://[::1]:8642"),
        ("https://192.0.2.1:8642", "https://192.0.2.1:8642"),
    ],
)
def test_the_address_for_this_machine(url: str, local: str) -> None:
    assert local_url(url) == local


def _options(tmp_path: Path, *, auth: bool = True, host: str = "127.0.0.1") -> ServeOptions:
    ring = RingOptions(nodes=1, streams=1, context=64)
    return ServeOptions(ring, tmp_path / "join", host=host, port=0, auth=auth)


def _found(random_model: MakeModel, tmp_path: Path) -> tuple[FoundModel, Store]:
    store = Store(tmp_path / "store")
    return store.resolve(str(random_model())), store


def _nothing(_gateway: Gateway) -> None:
    """Nobody waits for this."""


def _silent(_line: str) -> None:
    """Nobody listens."""


async def _run_until_opened(
    model: FoundModel, store: Store, home: Path, options: ServeOptions
) -> list[str | None]:
    """Names of keys and the run file's key while the gateway ran."""
    opened = asyncio.Event()
    callbacks = Callbacks(_silent, lambda _gateway: opened.set(), _nothing)
    seen: list[str | None] = []
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(
            run_gateway(model, store, home, options, callbacks=callbacks), name="gateway"
        )
        async with asyncio.timeout(60):
            await opened.wait()
        mark = read_run_file(home)
        assert mark is not None
        assert mark.model == model.name
        async with ApiClient(Endpoint.of_run_file(mark)) as client:
            assert not (await client.status()).ready
        seen = [*(key.name for key in KeyStore(home / KEYS_FILE).list()), mark.key]
        running.cancel()
    return seen


@pytest.mark.engine
@pytest.mark.network
async def test_its_own_key_lives_as_long_as_it(tmp_path: Path, random_model: MakeModel) -> None:
    model, store = _found(random_model, tmp_path)
    home = tmp_path / "home"
    KeyStore(home / KEYS_FILE).create("mine")
    *names, key = await _run_until_opened(model, store, home, _options(tmp_path))
    assert names == ["mine", LOCAL_KEY_NAME]
    assert key
    assert [k.name for k in KeyStore(home / KEYS_FILE).list()] == ["mine"]
    assert KeyStore(home / KEYS_FILE).verify(key) is None
    assert read_run_file(home) is None


@pytest.mark.engine
@pytest.mark.network
async def test_without_keys_none_is_made(tmp_path: Path, random_model: MakeModel) -> None:
    model, store = _found(random_model, tmp_path)
    options = _options(tmp_path, auth=False)
    assert await _run_until_opened(model, store, tmp_path / "home", options) == [""]


@pytest.mark.engine
async def test_a_leftover_of_its_own_key_opens_no_public_address(
    tmp_path: Path, random_model: MakeModel
) -> None:
    model, store = _found(random_model, tmp_path)
    home = tmp_path / "home"
    KeyStore(home / KEYS_FILE).create(LOCAL_KEY_NAME)
    callbacks = Callbacks(_silent, _nothing, _nothing)
    options = _options(tmp_path, host="0.0.0.0")
    with pytest.raises(BadBind):
        await run_gateway(model, store, home, options, callbacks=callbacks)
    assert KeyStore(home / KEYS_FILE).list() == ()


async def test_a_home_in_use_is_left_alone(tmp_path: Path, random_model: MakeModel) -> None:
    model, store = _found(random_model, tmp_path)
    KeyStore(tmp_path / KEYS_FILE).create(LOCAL_KEY_NAME)
    callbacks = Callbacks(_silent, _nothing, _nothing)
    with held_home(tmp_path, "gateway"), pytest.raises(HomeInUse):
        await run_gateway(model, store, tmp_path, _options(tmp_path), callbacks=callbacks)
    assert len(KeyStore(tmp_path / KEYS_FILE).list()) == 1
