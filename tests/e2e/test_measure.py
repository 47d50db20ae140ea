"""Real nodes measure themselves when they join, one after the other, and remember it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from tests.support.rings import open_ring, start_node, wait_until

from atoll.gateway.options import RingOptions
from atoll.node.probe_cache import PROBE_FILE
from atoll.store.layout import FoundModel, Store

pytestmark = [pytest.mark.engine, pytest.mark.network]
OPTIONS = RingOptions(
    nodes=2, streams=2, context=256, rows_max=64, chunk_rows=64, spin=1000, plan="auto"
)


@pytest.mark.alone
@pytest.mark.long
async def test_with_the_model_and_without(small: FoundModel, tmp_path: Path) -> None:
    store, own = Store(tmp_path / "store"), Store(tmp_path / "own")
    async with open_ring(small, store, tmp_path, OPTIONS, join=False) as ring:
        first, second = ring.gateway.join_files
        await ring.add_node(first)
        home, log = tmp_path / "bare", tmp_path / "bare.log"
        # This one has nothing: what it times comes from the gateway too.
        ring.nodes.append(await start_node(second, home, log, store=own))
        await ring.wait_ready()
        # Both are this machine, so one of them alone is the faster ring.
        [stage] = ring.status.rings[0].stages
        assert stage.measured
        assert 0 < stage.layer_ms < 500
        assert any("measure how fast they are" in line for line in ring.said)
        assert ring.gateway.conductor.rings[0].cast is not None
        assert ring.gateway.conductor.rings[0].cast.report is not None
        assert len(await ring.tokens((3, 4, 5), 8)) == 8
        [file] = (tmp_path / "node-1").glob(PROBE_FILE)
        before = msgspec.json.decode(file.read_bytes())
        ring.nodes[0].process.terminate()
        await ring.nodes[0].wait_ended()
        await wait_until(lambda: ring.status.nodes_missing == 1)
        await ring.add_node(None, home=tmp_path / "node-1")
        await ring.wait_ready()
        assert all(stage.measured for stage in ring.status.rings[0].stages)
        assert msgspec.json.decode(file.read_bytes()) == before
    # What was brought to be timed is gone again; of a part in the ring the shard stays.
    left = [file.name for file in own.shards_dir.rglob("*.gguf")]
    assert left in ([], [f"{stage.first}-{stage.last}.gguf"])
