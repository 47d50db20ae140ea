"""A real gateway that serves a small random model, and nodes driven by hand before it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import MakeModel
from tests.support.hand_node import HandNode, open_hand_node, open_small_gateway

from atoll.gateway.serve import Gateway
from atoll.store.layout import FoundModel, Store


@pytest.fixture(scope="session")
def small_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """One store, so that every shard is cut once."""
    return Store(tmp_path_factory.mktemp("gateway-store"))


@pytest.fixture(scope="session")
def small_model(random_model: MakeModel, small_store: Store) -> FoundModel:
    return small_store.resolve(str(random_model("llama", n_layers=6)))


@pytest.fixture
def said() -> list[str]:
    """What the gateway told its operator."""
    return []


OpenGateway = Callable[..., AbstractAsyncContextManager[Gateway]]


@pytest.fixture
def open_ring_gateway(
    small_model: FoundModel, small_store: Store, tmp_path: Path, said: list[str]
) -> OpenGateway:
    """Opens a real gateway with one place in its ring; keywords are ring options."""

    def open_it(**options: Any) -> AbstractAsyncContextManager[Gateway]:
        return open_small_gateway(small_model, small_store, tmp_path, said, **options)

    return open_it


@pytest.fixture
async def ring_gateway(open_ring_gateway: OpenGateway) -> AsyncIterator[Gateway]:
    async with open_ring_gateway() as gateway:
        yield gateway


@pytest.fixture
async def hand_node() -> AsyncIterator[HandNode]:
    """A node driven by hand that has not joined yet."""
    async with open_hand_node() as node:
        yield node
