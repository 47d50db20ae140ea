"""Nodes without the model: their layers come from the gateway and from each other."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.support.children import new_children
from tests.support.rings import open_ring, start_node, wait_until

from atoll.engine.whole import WholeModel
from atoll.gateway.options import RingOptions
from atoll.members.register import REGISTER_FILE, Register
from atoll.net import iroh_patch
from atoll.net.ticket import Ticket
from atoll.net.transport import Way
from atoll.store.layout import FoundModel, Store

pytestmark = [
    pytest.mark.engine,
    pytest.mark.network,
    pytest.mark.usefixtures("own_children"),
]
OPTIONS = RingOptions(nodes=2, streams=2, context=256, rows_max=64, chunk_rows=64, spin=1000)


@pytest.mark.parametrize("way", ["tls", "quic"])
async def test_nothing_but_a_ticket_is_needed(small: FoundModel, tmp_path: Path, way: Way) -> None:
    if way == "quic" and not iroh_patch.is_available():
        pytest.skip("no wheel of iroh for this system")
    prompt = tuple(range(3, 60))
    whole = WholeModel(small.path, n_slots=1, context=256, threads=1)
    wanted = whole.greedy([prompt], 12, exact=True, stop_at_end=False).tokens[0]
    whole.close()
    stores = [Store(tmp_path / f"store-{i}") for i in range(3)]
    async with open_ring(small, stores[0], tmp_path, OPTIONS, join=False, way=way) as ring:
        for i, path in enumerate(ring.gateway.join_files):
            home, log = tmp_path / f"node-{i}", tmp_path / f"node-{i}.log"
            ring.nodes.append(await start_node(path, home, log, "--link", way, store=stores[i + 1]))
        await ring.wait_ready()
        assert await ring.tokens(prompt, 12) == wanted
        assert all(stage.fetch_bytes == 0 for stage in ring.status.rings[0].stages)
    for store in stores[1:]:
        assert store.models() == []
        [shard] = store.shards_dir.rglob("*.gguf")
        assert shard.stat().st_size > 0
    assert new_children() == []


async def test_a_resting_node_lends_its_shard_to_the_one_that_takes_its_place(
    small: FoundModel, tmp_path: Path
) -> None:
    prompt = tuple(range(3, 60))
    store = Store(tmp_path / "store")
    async with open_ring(small, store, tmp_path, OPTIONS) as ring:
        wanted = await ring.tokens(prompt, 12)
        register = Register(tmp_path / "gateway" / REGISTER_FILE)
        invitation, secret = register.invite("friend", uses=1, lifetime_s=60)
        gateway = ring.gateway
        ticket = Ticket(gateway.key, gateway.addresses, secret, invitation.expires)
        own = Store(tmp_path / "own")
        home, log = tmp_path / "node-3", tmp_path / "node-3.log"
        path = tmp_path / "node-3.join"
        ticket.write(path)
        ring.nodes.append(await start_node(path, home, log, store=own))
        await wait_until(lambda: "joined as a spare" in "\n".join(ring.said))
        register.rest("node-1", resting=True)
        await wait_until(lambda: ring.status.rings[0].stages[0].name == "node-3", timeout_s=20)
        await ring.wait_ready()
        plan = ring.gateway.conductor.rings[0].plan
        assert plan is not None
        assert [source.name for source in plan.stages[0].sources] == ["node-1"]
        assert await ring.tokens(prompt, 12) == wanted
        # It may have stood by for the other part before.
        shards = {shard.name for shard in own.shards_dir.rglob("*.gguf")}
        assert f"{plan.stages[0].first}-{plan.stages[0].last}.gguf" in shards


async def test_requests_wait_while_a_node_is_replaced(small: FoundModel, tmp_path: Path) -> None:
    """A node rests and comes back under load: no stream is lost, no request refused."""
    store = Store(tmp_path / "store")
    prompt = tuple(range(3, 40))
    async with open_ring(small, store, tmp_path, OPTIONS) as ring:
        wanted = await ring.tokens(prompt, 40)
        register = Register(tmp_path / "gateway" / REGISTER_FILE)
        invitation, secret = register.invite("friend", uses=1, lifetime_s=60)
        path = tmp_path / "node-3.join"
        gateway = ring.gateway
        Ticket(gateway.key, gateway.addresses, secret, invitation.expires).write(path)
        await ring.add_node(path)
        await wait_until(lambda: "joined as a spare" in "\n".join(ring.said))
        epochs, stopping = {ring.status.rings[0].epoch}, False

        async def ask_on() -> int:
            count = 0
            while not stopping:
                assert await ring.tokens(prompt, 40) == wanted
                count += 1
            return count

        async with asyncio.TaskGroup() as tasks:
            asking = [tasks.create_task(ask_on()) for _ in range(2)]
            for name in ("node-1", "node-2"):
                before = ring.status.rings[0].epoch
                register.rest(name, resting=True)
                await wait_until(lambda: ring.status.rings[0].epoch > before, timeout_s=20)  # noqa: B023
                await ring.wait_ready()
                epochs.add(ring.status.rings[0].epoch)
                register.rest(name, resting=False)
            stopping = True
        assert len(epochs) == 3
        assert all(task.result() > 0 for task in asking)
