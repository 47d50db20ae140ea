"""A stage's process, shard and links, from the plan to the end."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from pathlib import Path

import psutil
import pytest
from tests.conftest import MakeModel
from tests.support.children import is_running, new_children
from tests.support.hand_gateway import (
    FIRST,
    LAST,
    N_EMBD,
    WAIT_S,
    HandGateway,
    at,
    open_hand_gateway,
)
from tests.support.loopback import Site, serving
from tests.support.rings import wait_until

from atoll.domain.control import StageFailed, StageReport, StageUnlinked
from atoll.domain.ids import Epoch
from atoll.engine.devices import PROCESSOR
from atoll.engine.library import ENGINE_BUILD, LIBRARY_VARIABLE, find_library
from atoll.node import stage_host
from atoll.store.cache import prune
from atoll.store.layout import FoundModel, Store, locked
from atoll.store.pull import pull
from atoll.store.shards import ensure_shard, shard_path

pytestmark = [
    pytest.mark.engine,
    pytest.mark.network,
    pytest.mark.usefixtures("own_children"),
]


def stage_of(_hand: HandGateway) -> psutil.Process:
    [child] = new_children()
    return child


@pytest.mark.parametrize(
    ("how", "word"), [(signal.SIGABRT, "abort"), (signal.SIGKILL, "killed"), (signal.SIGSEGV, "11")]
)
async def test_a_stage_process_that_dies_is_reported_with_its_cause(
    formed: HandGateway, how: signal.Signals, word: str
) -> None:
    await formed.computed(1, 0, 0, 0)
    stage = stage_of(formed)
    os.kill(stage.pid, how)
    failed = await formed.heard.next_message(StageFailed)
    assert failed.epoch == formed.epoch
    assert "stage process was killed by signal" in failed.problem
    assert word in failed.problem
    # Both neighbours notice, and the node lives on for the next plan.
    await formed.up_heard.wait_ended()
    await formed.down_heard.wait_ended()
    assert not is_running(stage.pid)
    formed.epoch = Epoch(1, 2)
    await formed.form()
    await formed.computed(2, 0, 0, 0)
    assert stage_of(formed).pid != stage.pid


async def test_a_library_of_its_own_computes_the_same(
    formed: HandGateway,
    model: FoundModel,
    node_store: Store,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """A copy of the packaged one under another name, in a node and its confined process."""
    expected = await formed.computed(1, 0, 0, 0)
    copy = tmp_path / "libllama-of-mine.so"
    shutil.copy(find_library(), copy)
    monkeypatch.setenv(LIBRARY_VARIABLE, str(copy))
    async with open_hand_gateway(model, node_store) as other:
        ready = await other.form()
        assert ready.device == PROCESSOR
        assert await other.computed(1, 0, 0, 0) == expected
        assert other.joined.engine_build == ENGINE_BUILD
        assert f"serving layers 1 to 4 on {PROCESSOR}, loaded in" in "\n".join(other.said)
        if sys.platform.startswith("linux"):
            maps = [m.path for child in new_children() for m in child.memory_maps()]
            assert str(copy) in maps


async def test_a_library_that_is_gone_when_the_plan_comes(
    hand: HandGateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(LIBRARY_VARIABLE, str(tmp_path / "absent.so"))
    hand.announce(hand.plan())
    failed = await hand.heard.next_message(StageFailed)
    assert "absent.so, which is not there" in failed.problem


async def test_the_way_to_the_next_stage_is_reported(formed: HandGateway) -> None:
    report = await formed.heard.next_message(StageReport)
    while report.next_rtt_s == 0:
        report = await formed.heard.next_message(StageReport)
    before = report.next_bytes
    await formed.computed(1, 0, 0, 0)
    while report.windows == 0:
        report = await formed.heard.next_message(StageReport)
    assert report.next_bytes >= before + 4 * N_EMBD
    assert report.next_rtt_s > 0


async def test_one_failure_is_reported_once(formed: HandGateway) -> None:
    await formed.computed(1, 0, 0, 0)
    os.kill(stage_of(formed).pid, signal.SIGKILL)
    await formed.heard.next_message(StageFailed)
    await wait_until(lambda: not new_children())
    formed.epoch = Epoch(1, 2)
    await formed.form()
    left = [formed.heard.messages.get_nowait() for _ in range(formed.heard.messages.qsize())]
    assert not [message for message, _ in left if isinstance(message, StageFailed)]


async def test_a_stage_that_dies_while_it_waits_for_neighbours(hand: HandGateway) -> None:
    hand.announce(hand.plan(gateway_address=at(1)))
    await wait_until(new_children, what="the stage process")
    os.kill(stage_of(hand).pid, signal.SIGKILL)
    failed = await hand.heard.next_message(StageFailed)
    assert "stage process" in failed.problem


async def test_neighbours_that_never_come(
    hand: HandGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_host, "LINK_S", 0.5)
    hand.announce(hand.plan(gateway_address=at(1)))
    unlinked = await hand.heard.next_message(StageUnlinked)
    assert "were not linked within 0.5 s" in unlinked.problem
    assert "nobody listens" in unlinked.problem
    # What it has loaded waits for the next plan.
    assert new_children()


async def test_its_shard_is_in_use_while_it_serves_and_makes_others_go(
    model: FoundModel, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    other = ensure_shard(store, model, 0, 2).path
    mine = shard_path(store, model.model, FIRST, LAST)
    async with open_hand_gateway(model, store, cache_bytes_max=0) as hand:
        await hand.form()
        assert not other.exists()
        assert prune(store, 0).removed == ()
        await hand.computed(1, 0, 0, 0)
    assert len(prune(store, 0).removed) == 1
    assert not mine.exists()


class TestFetching:
    """A node without the model, which is at an address."""

    async def test_only_its_own_layers_are_fetched(self, model: FoundModel, tmp_path: Path) -> None:
        store = Store(tmp_path)
        with serving(Site(model.path.read_bytes())) as site:
            async with open_hand_gateway(model, store, path=site.url) as hand:
                await hand.form()
                await hand.computed(1, 0, 0, 0)
        assert store.models() == []
        [shard] = store.shards_dir.glob(f"{model.model}/*.gguf")
        assert shard.name == f"{FIRST}-{LAST}.gguf"
        assert all("range" in headers for headers in site.seen)

    async def test_a_model_that_is_here_is_not_fetched(
        self, model: FoundModel, tmp_path: Path
    ) -> None:
        store = Store(tmp_path)
        pull(str(model.path), store=store)
        async with open_hand_gateway(model, store, path="hf:no/such/model.gguf") as hand:
            await hand.form()

    async def test_another_model_at_the_address_is_reported(
        self, model: FoundModel, tmp_path: Path, random_model: MakeModel
    ) -> None:
        other = random_model("llama", n_layers=6, seed=9).read_bytes()
        with serving(Site(other)) as site:
            async with open_hand_gateway(model, Store(tmp_path), path=site.url) as hand:
                hand.announce(hand.plan())
                failed = await hand.heard.next_message(StageFailed)
        assert "but the plan says" in failed.problem

    async def test_a_fetch_ends_with_the_node(self, model: FoundModel, tmp_path: Path) -> None:
        """The server is slow; the node is stopped in the middle and does not wait for it."""
        site = Site(model.path.read_bytes())

        def slow_down() -> None:
            site.trickle_s = 0.1 if len(site.seen) > 1 else 0.0

        site.before = slow_down
        with serving(site):
            async with open_hand_gateway(model, Store(tmp_path), path=site.url) as hand:
                hand.announce(hand.plan(gateway_address=at(1)))
                await wait_until(lambda: list(tmp_path.rglob("*.part")), what="the fetch")
                hand.running.cancel()
                await asyncio.wait([hand.running], timeout=WAIT_S)
                assert hand.running.done()
            lock = tmp_path / "shards" / model.model / f"{FIRST}-{LAST}.lock"
            await asyncio.wait_for(asyncio.to_thread(_lock_once, lock), WAIT_S)


def _lock_once(path: Path) -> None:
    with locked(path):
        """The fetch has let go of it."""
