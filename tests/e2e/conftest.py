"""Rings of real processes: one on the demo model for each module, small ones for each test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import uvloop
from tests.conftest import MakeModel
from tests.support.rings import Ring, open_ring

from atoll.gateway.options import RingOptions
from atoll.store.layout import FoundModel, Store


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run on the loop that the product runs on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def demo(demo_model: Path, test_store: Store) -> FoundModel:
    return test_store.resolve(str(demo_model))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def demo_ring(
    demo: FoundModel, test_store: Store, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Ring]:
    """Three nodes with the demo model; 8 streams of 1,024 positions."""
    options = RingOptions(nodes=3, context=1024, waiting=8, spin=1000)
    folder = tmp_path_factory.mktemp("demo-ring")
    async with open_ring(demo, test_store, folder, options) as ring:
        yield ring


OpenSmall = Callable[..., AbstractAsyncContextManager[Ring]]


@pytest.fixture(scope="session")
def small(random_model: MakeModel, tmp_path_factory: pytest.TempPathFactory) -> FoundModel:
    store = Store(tmp_path_factory.mktemp("small-store"))
    return store.resolve(str(random_model("llama", n_layers=6)))


@pytest.fixture
def open_small(small: FoundModel, tmp_path: Path) -> OpenSmall:
    """Opens a ring of a small random model, which starts fast and may be broken."""

    def open_it(**overrides: Any) -> AbstractAsyncContextManager[Ring]:
        join = overrides.pop("join", True)
        options = RingOptions(
            **(
                {
                    "nodes": 2,
                    "streams": 4,
                    "context": 256,
                    "rows_max": 64,
                    "chunk_rows": 64,
                    "spin": 1000,
                }
                | overrides
            )
        )
        return open_ring(small, Store(tmp_path / "store"), tmp_path, options, join=join)

    return open_it
