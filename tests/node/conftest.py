"""A real node before a gateway that the test drives by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import uvloop
from tests.conftest import MakeModel
from tests.support.hand_gateway import HandGateway, open_hand_gateway

from atoll.node.keeping import Keeping
from atoll.store.layout import FoundModel, Store


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run on the loop that the product runs on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def node_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """One store, so that the shard is cut once."""
    return Store(tmp_path_factory.mktemp("node-store"))


@pytest.fixture(scope="session")
def model(random_model: MakeModel, node_store: Store) -> FoundModel:
    path: Path = random_model("llama", n_layers=6)
    return node_store.resolve(str(path))


@pytest.fixture
async def hand(model: FoundModel, node_store: Store) -> AsyncIterator[HandGateway]:
    """A node that has joined and has no plan yet."""
    async with open_hand_gateway(model, node_store, keeping=Keeping(ram_bytes=1 << 24)) as gateway:
        yield gateway


@pytest.fixture
async def formed(hand: HandGateway) -> HandGateway:
    """A node whose stage is ready."""
    await hand.form()
    return hand
