"""A ring of processes on this machine: up, and gone again whatever happens."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psutil
import pytest
from tests.support.children import new_children

from atoll.client.api import ApiClient
from atoll.demo.local_ring import LocalRing, LocalRingOptions, local_ring, model_argument
from atoll.demo.programs import ProgramDied
from atoll.domain.ids import ModelId
from atoll.store.layout import FoundModel, Store

OPTIONS = LocalRingOptions(nodes=2, streams=1, context=128, threads=1)


pytestmark = pytest.mark.usefixtures("own_children")


def _silent(_line: str) -> None:
    """Nobody listens."""


@pytest.fixture
def model(demo_model: Path, test_store: Store) -> FoundModel:
    return test_store.resolve(str(demo_model))


def test_a_stored_model_goes_by_its_id(tmp_path: Path) -> None:
    store = Store(tmp_path)
    model = ModelId("ab" * 32)
    assert model_argument(FoundModel(model, store.model_path(model), "x"), store) == model
    assert model_argument(FoundModel(model, Path("/m/x.gguf"), "x"), store) == "/m/x.gguf"


@pytest.mark.engine
@pytest.mark.network
async def test_it_comes_up_and_leaves_nothing(
    tmp_path: Path, model: FoundModel, test_store: Store
) -> None:
    said: list[str] = []
    async with local_ring(model, test_store, tmp_path, OPTIONS, tell=said.append) as ring:
        assert isinstance(ring, LocalRing)
        assert [program.name for program in ring.programs] == ["gateway", "node-1", "node-2"]
        async with ApiClient(ring.endpoint) as client:
            status = await client.status()
        assert status.ready
        assert [stage.name for stage in status.rings[0].stages] == ["node-1", "node-2"]
        # Each program, with its engine processes.
        assert len(new_children()) == 3 + 2 + 2
    assert new_children() == []
    assert len(said) == 3


@pytest.mark.engine
@pytest.mark.network
@pytest.mark.long
async def test_a_program_that_dies_ends_the_block(
    tmp_path: Path, model: FoundModel, test_store: Store
) -> None:
    async def hold() -> None:
        async with local_ring(model, test_store, tmp_path, OPTIONS, tell=_silent) as ring:
            psutil.Process(ring.programs[2].pid).kill()
            async with asyncio.timeout(30):
                await asyncio.Event().wait()

    with pytest.raises(ProgramDied, match="node-2 ended by signal 9"):
        await hold()
    assert new_children() == []


@pytest.mark.engine
@pytest.mark.network
async def test_a_gateway_that_cannot_start(
    tmp_path: Path, model: FoundModel, test_store: Store
) -> None:
    too_long = LocalRingOptions(nodes=1, context=1 << 24)
    with pytest.raises(ProgramDied, match="gateway ended with exit code 2") as caught:
        async with local_ring(model, test_store, tmp_path, too_long, tell=_silent):
            raise AssertionError("it must not come up")
    assert "--context" in caught.value.hint
    assert new_children() == []


@pytest.mark.engine
@pytest.mark.network
@pytest.mark.parametrize("after_s", [0.1, 1.5])
async def test_cancelling_leaves_nothing(
    after_s: float, tmp_path: Path, model: FoundModel, test_store: Store
) -> None:
    async def hold() -> None:
        async with local_ring(model, test_store, tmp_path, OPTIONS, tell=_silent):
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as tasks:
        holding = tasks.create_task(hold(), name="hold")
        await asyncio.sleep(after_s)
        holding.cancel()
    assert new_children() == []
