"""A ring of processes whose links are QUIC: the same tokens, and the same end."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.children import new_children
from tests.support.rings import open_ring, wait_until

from atoll.engine.whole import WholeModel
from atoll.gateway.options import RingOptions
from atoll.net import iroh_patch
from atoll.store.layout import FoundModel, Store

pytestmark = [
    pytest.mark.engine,
    pytest.mark.network,
    pytest.mark.usefixtures("own_children"),
    pytest.mark.skipif(not iroh_patch.is_available(), reason="no wheel of iroh for this system"),
]

OPTIONS = RingOptions(nodes=2, streams=4, context=256, rows_max=64, chunk_rows=64, spin=1000)


async def test_quic_carries_a_ring(small: FoundModel, tmp_path: Path) -> None:
    prompt = tuple(range(3, 100))
    whole = WholeModel(small.path, n_slots=1, context=256, threads=1)
    wanted = whole.greedy([prompt], 24, exact=True, stop_at_end=False).tokens[0]
    whole.close()
    async with open_ring(small, Store(tmp_path / "store"), tmp_path, OPTIONS, way="quic") as ring:
        assert [stage.carrier for stage in ring.status.rings[0].stages] == ["quic", "quic"]
        assert await ring.tokens(prompt, 24) == wanted
        first = ring.nodes[0]
        first.process.terminate()
        assert await first.wait_ended() == 0
        await wait_until(lambda: not ring.gateway.conductor.health().ready)
        # It comes back by its key.
        again = await ring.add_node(None, "--link", "quic", home=tmp_path / "node-1")
        await ring.wait_ready()
        assert again.process.returncode is None
        assert await ring.tokens(prompt, 24) == wanted
    assert new_children() == []
