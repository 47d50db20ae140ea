"""A shard into the store, over links."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from pathlib import Path

import pytest
from tests.support.lenders import open_post

from atoll.domain.bulk import ShardRange
from atoll.domain.errors import BadModel, PullFailed
from atoll.domain.ids import ShardId
from atoll.model.shard import hash_shard
from atoll.store.layout import FoundModel, Store, locked
from atoll.store.shards import FetchedShard, shard_path
from atoll.transfer.borrower import Holder
from atoll.transfer.fetch import borrow_shard
from atoll.transfer.holdings import Holdings

pytestmark = pytest.mark.network


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "node")


@pytest.fixture
def expected(model: FoundModel, shard: ShardRange) -> ShardId:
    return hash_shard(model.path, shard.first, shard.last).shard


async def test_fetched_once(
    holdings: Holdings, shard: ShardRange, expected: ShardId, store: Store
) -> None:
    told: list[tuple[int, int]] = []

    async def borrow(*holders: Holder) -> FetchedShard:
        return await borrow_shard(
            *(store, shard, holders),
            expected=expected,
            progress=lambda here, size: told.append((here, size)),
        )

    async with (
        asyncio.timeout(30),
        open_post(lambda _peer, wanted: holdings.opened(wanted)) as post,
    ):
        found = await borrow(post.holder())
        assert found.file.shard == expected
        assert found.ratio == 1.0
        path = shard_path(store, shard.model, shard.first, shard.last)
        assert found.file.path == path
        assert not path.with_suffix(".part").exists()
        sizes = [here for here, _ in told]
        assert sizes == sorted(sizes)
        assert told[0] == (0, found.file.size_bytes)
        assert told[-1] == (found.file.size_bytes, found.file.size_bytes)
        # The second time nobody is even asked.
        assert (await borrow()).fetched_bytes == 0
        path.write_bytes(path.read_bytes()[:-1] + b"?")
        assert (await borrow(post.holder())).fetched_bytes == found.file.size_bytes


async def test_another_shard_than_planned_is_not_kept(
    holdings: Holdings, shard: ShardRange, store: Store
) -> None:
    async with (
        asyncio.timeout(30),
        open_post(lambda _peer, wanted: holdings.opened(wanted)) as post,
    ):
        with pytest.raises(BadModel, match="but the plan says ffffffffffff"):
            await borrow_shard(
                *(store, shard, [post.holder()]),
                expected=ShardId("f" * 64),
                progress=lambda *_: None,
            )
    folder = shard_path(store, shard.model, 1, 2).parent
    assert [p.name for p in folder.iterdir()] == ["1-5.lock"]


async def test_two_who_want_the_same_wait_for_each_other(
    holdings: Holdings, shard: ShardRange, expected: ShardId, store: Store
) -> None:
    async with (
        asyncio.timeout(30),
        open_post(lambda _peer, wanted: holdings.opened(wanted)) as post,
    ):
        both = [
            borrow_shard(
                *(store, shard, [post.holder()]), expected=expected, progress=lambda *_: None
            )
            for _ in range(2)
        ]
        found = await asyncio.gather(*both)
        assert sorted(one.fetched_bytes for one in found) == [0, found[0].file.size_bytes]


async def test_who_stops_waiting_for_the_lock_leaves_no_lock_behind(
    holdings: Holdings, shard: ShardRange, expected: ShardId, store: Store
) -> None:
    path = shard_path(store, shard.model, shard.first, shard.last).with_suffix(".lock")
    path.parent.mkdir()

    async with (
        asyncio.timeout(30),
        open_post(lambda _peer, wanted: holdings.opened(wanted)) as post,
    ):

        def borrowing() -> Coroutine[None, None, FetchedShard]:
            return borrow_shard(
                *(store, shard, [post.holder()]), expected=expected, progress=lambda *_: None
            )

        with locked(path), pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await borrowing()
        assert (await borrowing()).file.shard == expected


async def test_a_folder_that_cannot_be_written(
    holdings: Holdings,
    shard: ShardRange,
    expected: ShardId,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(_fd: int, _data: bytes, _offset: int) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    async with (
        asyncio.timeout(30),
        open_post(lambda _peer, wanted: holdings.opened(wanted)) as post,
    ):
        with pytest.raises(PullFailed, match="No space left on device"):
            await borrow_shard(
                *(store, shard, [post.holder()]), expected=expected, progress=lambda *_: None
            )
