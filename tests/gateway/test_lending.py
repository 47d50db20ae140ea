"""The gateway lends the shards of its ring and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.conftest import MakeModel

from atoll.domain.bulk import ShardRange
from atoll.domain.errors import BadRequest
from atoll.domain.ids import ModelId, NodeId
from atoll.domain.measure import Measure, ProbeRange
from atoll.gateway.lending import Lending
from atoll.gateway.shard_book import ShardBook
from atoll.model.manifest import make_manifest
from atoll.store.layout import Store

SOMEBODY = NodeId("1" * 64)


def test_stages_of_the_ring_and_nothing_else(random_model: MakeModel, tmp_path: Path) -> None:
    store = Store(tmp_path)
    model = store.resolve(str(random_model()))
    manifest = make_manifest(model.path, model.model, [(1, 3), (3, 5)])
    lending = Lending(model, store, ShardBook(model.path, model.model, manifest.shards))
    for entry in manifest.shards:
        with lending.open(SOMEBODY, ShardRange(model.model, entry.first, entry.last)) as source:
            assert source.size_bytes == entry.size_bytes
    for wrong in (
        ShardRange(model.model, 1, 5),
        ShardRange(model.model, 0, 1),
        ShardRange(ModelId("f" * 64), 1, 3),
    ):
        with pytest.raises(BadRequest, match="no stage of this ring"):
            lending.open(SOMEBODY, wrong)


def test_what_nodes_are_to_time_is_lent_too(random_model: MakeModel, tmp_path: Path) -> None:
    store = Store(tmp_path)
    model = store.resolve(str(random_model()))
    manifest = make_manifest(model.path, model.model, [(1, 5)])
    order = Measure(model.model, 6, 0, 64, ProbeRange(1, 2), ProbeRange(1, 4))
    book = ShardBook(model.path, model.model, manifest.shards)
    lending = Lending(model, store, book, order)
    for layers in ((1, 2), (1, 4), (1, 5)):
        with lending.open(SOMEBODY, ShardRange(model.model, *layers)) as source:
            assert source.size_bytes > 0
    with pytest.raises(BadRequest, match="no stage of this ring"):
        lending.open(SOMEBODY, ShardRange(model.model, 1, 3))
