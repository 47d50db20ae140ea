"""Where a node takes its shard from, in which order, and what it says where there is none."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.conftest import MakeModel
from tests.support.lenders import Post, open_post
from tests.support.loopback import Site, serving

from atoll.domain.address import Address
from atoll.domain.control import Plan, StagePlan
from atoll.domain.errors import AtollError, BadModel, PullFailed
from atoll.domain.ids import Epoch, NodeId, ShardId
from atoll.model.manifest import make_manifest
from atoll.node.options import NodeOptions
from atoll.node.shard_seeker import ShardSeeker, wanted_of
from atoll.store.cache import prune
from atoll.store.layout import FoundModel, Store, UnknownModel
from atoll.store.shards import shard_path
from atoll.transfer.holdings import Holdings

pytestmark = pytest.mark.network


@pytest.fixture
def plan(model: FoundModel) -> Plan:
    [entry] = make_manifest(model.path, model.model, ((1, 5),)).shards
    return Plan(
        epoch=Epoch(1, 1),
        model=model.model,
        architecture="llama",
        n_layers=6,
        n_embd=64,
        n_slots=1,
        context=64,
        rows_max=8,
        gateway=NodeId("9" * 64),
        gateway_address=Address(),
        stages=(StagePlan(NodeId("1" * 64), "node", 1, 5, entry.shard, Address()),),
    )


def seeker(plan: Plan, store: Store, model: str, *posts: Post, **changes: Any) -> ShardSeeker:
    options = NodeOptions("node", model, threads=1, threads_large=1)
    mine = msgspec.structs.replace(plan.stages[0], **changes)
    return ShardSeeker(
        *(wanted_of(plan, mine), store, options),
        holders=[post.holder() for post in posts],
        progress=lambda _here, _all: None,
    )


@pytest.fixture
def holdings(model: FoundModel, tmp_path: Path) -> Holdings:
    return Holdings(Store(tmp_path / "lender"), lambda _wanted: model)


async def test_a_model_that_is_here_is_cut(plan: Plan, model: FoundModel, tmp_path: Path) -> None:
    seeking = seeker(plan, Store(tmp_path), str(model.path))
    found = await seeking.find()
    assert found.shard == plan.stages[0].shard
    seeking.close()


async def test_who_has_nothing_borrows_from_the_gateway(
    plan: Plan, holdings: Holdings, tmp_path: Path
) -> None:
    async with (
        asyncio.timeout(20),
        open_post(lambda _peer, shard: holdings.opened(shard)) as post,
    ):
        seeking = seeker(plan, Store(tmp_path), "", post)
        found = await seeking.find()
        assert found.shard == plan.stages[0].shard
        assert post.lender.lent_bytes == found.size_bytes
        seeking.close()


async def test_what_the_owner_named_is_not_fetched_instead(
    plan: Plan, holdings: Holdings, random_model: MakeModel, tmp_path: Path
) -> None:
    other = random_model("llama", n_layers=6, seed=9)
    async with (
        asyncio.timeout(20),
        open_post(lambda _peer, shard: holdings.opened(shard)) as post,
    ):
        for model, problem in ((str(other), "the model here is"), ("nothing", "nothing")):
            seeking = seeker(plan, Store(tmp_path), model, post)
            with pytest.raises(UnknownModel, match=problem):
                await seeking.find()
            seeking.close()
        assert post.lender.lent_bytes == 0


async def test_an_address_first_and_then_the_gateway(
    plan: Plan, model: FoundModel, holdings: Holdings, tmp_path: Path
) -> None:
    async with (
        asyncio.timeout(20),
        open_post(lambda _peer, shard: holdings.opened(shard)) as post,
    ):
        with serving(Site(model.path.read_bytes())) as site:
            seeking = seeker(plan, Store(tmp_path / "one"), site.url, post)
            await seeking.find()
            seeking.close()
            assert post.lender.lent_bytes == 0
        with serving(Site(b"", statuses=[404] * 9)) as site:
            seeking = seeker(plan, Store(tmp_path / "two"), site.url, post)
            found = await seeking.find()
            seeking.close()
            assert post.lender.lent_bytes == found.size_bytes


async def test_neither_helps(plan: Plan, tmp_path: Path) -> None:
    def nothing(_peer: NodeId, _shard: object) -> Any:
        raise AtollError("it is not here")

    async with asyncio.timeout(20), open_post(nothing) as post:
        with serving(Site(b"", statuses=[404] * 9)) as site:
            seeking = seeker(plan, Store(tmp_path), site.url, post)
            with pytest.raises(PullFailed, match=r"404.*; and from the gateway: it is not here"):
                await seeking.find()
            seeking.close()


async def test_the_gateway_brings_another_shard(
    plan: Plan, holdings: Holdings, tmp_path: Path
) -> None:
    async with (
        asyncio.timeout(20),
        open_post(lambda _peer, shard: holdings.opened(shard)) as post,
    ):
        seeking = seeker(plan, Store(tmp_path), "", post, shard=ShardId("f" * 64))
        with pytest.raises(BadModel, match="but the plan says ffff"):
            await seeking.find()
        seeking.close()


async def test_the_shard_is_in_use_until_the_end(
    plan: Plan, model: FoundModel, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    seeking = seeker(plan, store, str(model.path))
    found = await seeking.find()
    assert found.path == shard_path(store, plan.model, 1, 5)
    assert _can_be_pruned(store) is False
    seeking.close()
    assert _can_be_pruned(store) is True


def _can_be_pruned(store: Store) -> bool:
    return bool(prune(store, 0).removed)


async def test_a_store_that_cannot_be_written(
    plan: Plan, model: FoundModel, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    store.shards_dir.rmdir()
    store.shards_dir.write_text("in the way")
    seeking = seeker(plan, store, str(model.path))
    with pytest.raises(AtollError, match="cannot cut the shard"):
        await seeking.find()
    seeking.close()
