"""Rings that follow a plan: unequal cuts, nodes left out, and what becomes of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.children import new_children
from tests.support.rings import Ring, open_ring, start_node, wait_until

from atoll.domain.control import Plan
from atoll.domain.measure import WindowTime
from atoll.engine.whole import WholeModel
from atoll.gateway import conductor as conductor_module
from atoll.gateway import replanner as replanner_module
from atoll.gateway.casting import Times
from atoll.gateway.options import RingOptions
from atoll.gateway.prefetching import Prefetcher
from atoll.members.member import Member
from atoll.model.manifest import ShardEntry
from atoll.plan.fleet import Machine
from atoll.store.layout import FoundModel, Store

pytestmark = [
    pytest.mark.engine,
    pytest.mark.network,
    pytest.mark.usefixtures("own_children"),
]
OPTIONS = RingOptions(
    nodes=3,
    streams=4,
    context=256,
    rows_max=64,
    chunk_rows=64,
    spin=1000,
    plan="auto",
    plan_streams=12,
)


def measured(**layer_ms: float) -> Times:
    def machine(name: str, ms: float) -> Machine:
        times = tuple(WindowTime(rows, ms / 1e3 * rows) for rows in (1, 64))
        return Machine(name.replace("_", "-"), 1 << 30, times, host=name)

    machines = [machine(name, ms) for name, ms in layer_ms.items()]
    return Times((WindowTime(1, 0.0001),), {m.name: m for m in machines})


async def test_unequal_nodes_get_unequal_parts(
    small: FoundModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measured are they all alike, being one machine, so what is known of them is made up."""
    made_up = measured(node_1=2.0, node_2=1.0, node_3=900.0)
    monkeypatch.setattr(conductor_module, "known_times", lambda *_args: made_up)
    prompt = tuple(range(3, 60))
    whole = WholeModel(small.path, n_slots=1, context=256, threads=1)
    wanted = whole.greedy([prompt], 12, exact=True, stop_at_end=False).tokens[0]
    whole.close()
    store = Store(tmp_path / "store")
    async with open_ring(small, store, tmp_path, OPTIONS, join=False) as ring:
        conductor = ring.gateway.conductor
        for path in ring.gateway.join_files:
            await ring.add_node(path)
        await ring.wait_ready()
        stages = {s.name: s.last - s.first for s in ring.status.rings[0].stages}
        assert set(stages) == {"node-1", "node-2"}
        assert stages["node-2"] > stages["node-1"]
        assert conductor.rings[0].cast is not None
        assert conductor.rings[0].cast.report is not None
        assert conductor.rings[0].cast.report.left_out == ("node-3",)
        assert await ring.tokens(prompt, 12) == wanted
        # Who was left out may go, and nobody notices.
        ring.nodes[2].process.kill()
        await ring.nodes[2].wait_ended()
        await wait_until(lambda: "node-3 is gone" in "\n".join(ring.said))
        assert conductor.health().ready
        assert await ring.tokens(prompt, 12) == wanted
        # A node that has a part is replaced by a plan over those there are.
        await ring.add_node(None, home=tmp_path / "node-3")
        await wait_until(lambda: ring.status.nodes_missing == 0)
        ring.nodes[1].process.kill()
        await ring.nodes[1].wait_ended()
        await ring.add_node(None, home=tmp_path / "node-2")
        await ring.wait_ready()
        assert await ring.tokens(prompt, 12) == wanted
    assert new_children() == []


def invited(ring: Ring, folder: Path, name: str) -> Path:
    """A ticket for one more node than there are places."""
    path = folder / f"{name}.join"
    ring.invite().write(path)
    return path


def plan_of(ring: Ring) -> Plan:
    """The plan of the only ring."""
    plan = ring.gateway.conductor.rings[0].plan
    assert plan is not None
    return plan


async def test_a_newcomer_that_is_worth_it_moves_the_ring(
    small: FoundModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streams of the old ring end, and nobody is refused meanwhile."""
    known = [measured(node_1=3.0)]
    monkeypatch.setattr(conductor_module, "known_times", lambda *_args: known[0])
    monkeypatch.setattr(replanner_module, "known_times", lambda *_args: known[0])
    prompt = tuple(range(3, 60))
    options = replace(OPTIONS, nodes=1, plan_streams=1)
    store = Store(tmp_path / "store")
    async with open_ring(small, store, tmp_path, options) as ring:
        assert [stage.name for stage in ring.status.rings[0].stages] == ["node-1"]
        wanted = await ring.tokens(prompt, 20)
        stopping = False

        async def ask_on() -> int:
            count = 0
            while not stopping:
                assert await ring.tokens(prompt, 20) == wanted
                count += 1
            return count

        async with asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(ask_on())
            known[0] = measured(node_1=3.0, node_2=1.0)
            await ring.add_node(invited(ring, tmp_path, "node-2"))
            await wait_until(lambda: ring.status.rings[0].stages[0].name == "node-2", timeout_s=30)
            await ring.wait_ready()
            assert await ring.tokens(prompt, 20) == wanted
            stopping = True
        assert asking.result() > 0
        assert any("other rings would be" in line for line in ring.said)


@pytest.mark.long
async def test_a_newcomer_has_its_shard_before_the_old_ring_ends(
    small: FoundModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes with nothing but a ticket, and the old ring serves until its shard is there."""
    known = [measured(node_1=3.0)]
    monkeypatch.setattr(conductor_module, "known_times", lambda *_args: known[0])
    monkeypatch.setattr(replanner_module, "known_times", lambda *_args: known[0])
    prompt = tuple(range(3, 60))
    options = replace(OPTIONS, nodes=1, plan_streams=1)
    own = Store(tmp_path / "own")
    at_the_end: list[tuple[int, bool, str, list[str]]] = []
    fetch = Prefetcher.fetch

    async def watched(
        self: Prefetcher, members: Sequence[Member], entries: Sequence[ShardEntry]
    ) -> None:
        await fetch(self, members, entries)
        [stage] = ring.status.rings[0].stages
        shards = [path.name for path in own.shards_dir.rglob("*.gguf")]
        ready = ring.gateway.conductor.health().ready
        at_the_end.append((plan_of(ring).epoch.counter, ready, stage.name, shards))

    monkeypatch.setattr(Prefetcher, "fetch", watched)
    async with open_ring(small, Store(tmp_path / "store"), tmp_path, options) as ring:
        [stage] = plan_of(ring).stages
        wanted = await ring.tokens(prompt, 20)
        stopping = False

        async def ask_on() -> int:
            count = 0
            while not stopping:
                assert await ring.tokens(prompt, 20) == wanted
                count += 1
            return count

        async with asyncio.TaskGroup() as tasks:
            asking = [tasks.create_task(ask_on()) for _ in range(2)]
            known[0] = measured(node_1=3.0, node_2=1.0)
            path, log = invited(ring, tmp_path, "node-2"), tmp_path / "node-2.log"
            ring.nodes.append(await start_node(path, tmp_path / "node-2", log, store=own))
            await wait_until(
                lambda: f"node-2 [{stage.first}, {stage.last}) → gateway" in "\n".join(ring.said),
                timeout_s=30,
                what=f"the better ring (said: {ring.said[-5:]})",
            )
            await ring.wait_ready()
            assert await ring.tokens(prompt, 20) == wanted
            stopping = True
        assert all(task.result() > 0 for task in asking)
        # When all was fetched the first epoch still served, on node-1 alone.
        assert at_the_end == [(1, True, "node-1", [f"{stage.first}-{stage.last}.gguf"])]
        said = [line for line in ring.said if "ring" in line]
        assert [line.partition(" MiB")[2] or line[:17] for line in said[-4:]] == [
            " for a better ring: node-2",
            " for a better ring are fetched",
            "other rings would",
            "the ring is compl",
        ]
        # Nothing was left to be fetched between the rings.
        assert plan_of(ring).epoch.counter == 2
        assert plan_of(ring).stages[0].sources == ()
        assert "for a ring to come" in ring.nodes[1].said
        assert "fetching the layers of this node" not in ring.nodes[1].said
    assert new_children() == []


async def test_a_newcomer_that_cannot_fetch_leaves_the_ring_as_it_is(
    small: FoundModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot write its shard; the ring serves on, and the gateway says why."""
    known = [measured(node_1=3.0)]
    monkeypatch.setattr(conductor_module, "known_times", lambda *_args: known[0])
    monkeypatch.setattr(replanner_module, "known_times", lambda *_args: known[0])
    prompt = tuple(range(3, 60))
    options = replace(OPTIONS, nodes=1, plan_streams=1)
    own = Store(tmp_path / "own")
    async with open_ring(small, Store(tmp_path / "store"), tmp_path, options) as ring:
        wanted = await ring.tokens(prompt, 20)
        known[0] = measured(node_1=3.0, node_2=1.0)
        (own.shards_dir / small.model).write_text("in the way")
        path, log = invited(ring, tmp_path, "node-2"), tmp_path / "node-2.log"
        ring.nodes.append(await start_node(path, tmp_path / "node-2", log, store=own))
        problem = "better ones have to wait: node-2 cannot fetch its layers"
        await wait_until(lambda: problem in "\n".join(ring.said), timeout_s=30)
        assert str(tmp_path) not in ring.said[-1]
        assert ring.gateway.conductor.health().ready
        assert await ring.tokens(prompt, 20) == wanted
        ring.nodes[1].process.kill()
        await ring.nodes[1].wait_ended()
        assert await ring.tokens(prompt, 20) == wanted
        assert plan_of(ring).epoch.counter == 1
