"""Hashes of shards, made when they are wanted."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.conftest import MakeModel

from atoll.domain.bulk import ShardRange
from atoll.domain.errors import CannotCut
from atoll.domain.ids import ModelId
from atoll.gateway import shard_book
from atoll.gateway.shard_book import ShardBook
from atoll.model.manifest import make_manifest
from atoll.store.layout import sha256_of

RANGES = [(1, 3), (3, 5)]


async def test_entries_are_those_of_the_manifest_and_made_once(
    random_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    path: Path = random_model()
    model = ModelId(sha256_of(path))
    expected = make_manifest(path, model, RANGES).shards
    book = ShardBook(path, model)
    assert ShardRange(model, 1, 3) not in book
    assert await book.entries(RANGES) == expected
    assert ShardRange(model, 1, 3) in book
    assert ShardRange(ModelId("f" * 64), 1, 3) not in book
    monkeypatch.setattr(shard_book, "hash_shard", None)
    assert await book.entries(RANGES[::-1]) == expected[::-1]
    known = ShardBook(path, model, expected)
    assert await known.entries(RANGES) == expected


async def test_a_range_that_cannot_be(random_model: MakeModel) -> None:
    path: Path = random_model()
    with pytest.raises(CannotCut):
        await ShardBook(path, ModelId("a" * 64)).entries([(4, 99)])
