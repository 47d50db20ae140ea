"""The demo from question to comparison."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.children import new_children

from atoll.client.api import ApiClient
from atoll.demo.run import Audience, DemoOptions, open_demo
from atoll.store.layout import Store

pytestmark = [
    pytest.mark.engine,
    pytest.mark.network,
    pytest.mark.usefixtures("own_children"),
]


async def test_a_ring_is_asked_and_compared(demo_model: Path, test_store: Store) -> None:
    model = test_store.resolve(str(demo_model))
    told: list[str] = []
    shown: list[str] = []
    options = DemoOptions("Name three colors.", 12, threads=1, nodes=2)
    async with open_demo(model, test_store, options, Audience(told.append, shown.append)) as (
        ring,
        result,
    ):
        folder = ring.home.parent
        assert folder.is_dir()
        async with ApiClient(ring.endpoint) as client:
            assert (await client.health()).status == "ok"
    assert not folder.exists()
    assert new_children() == []

    assert result.answer == "".join(shown)
    assert "Red" in result.answer
    assert (result.equal, result.compared) == (12, 12)
    assert result.is_equal
    assert [(stage.first, stage.last) for stage in result.stages] == [(1, 15), (15, 29)]
    assert result.ends == ((0, 1), (29, 30))
    assert all(s.shard_bytes > 1e6 and s.ms_per_token > 0 for s in result.stages)
    assert all(s.memory_bytes > s.shard_bytes for s in result.stages)
    assert 0 < result.completion_tokens <= 12
    assert result.tokens_per_s > 0
    assert result.whole_tokens_per_s > 0
    assert result.lap is not None
    assert any("comparing" in line for line in told)
