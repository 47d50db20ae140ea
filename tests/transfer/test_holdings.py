"""What a machine can lend, as a file it has or cut on the fly."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from atoll.domain.bulk import ShardRange
from atoll.domain.errors import CannotCut
from atoll.domain.ids import ModelId
from atoll.store.cache import prune
from atoll.store.layout import FoundModel, Store, UnknownModel
from atoll.store.shards import ensure_shard
from atoll.transfer.holdings import Holdings


def read(holdings: Holdings, shard: ShardRange) -> bytes:
    with holdings.opened(shard) as source:
        return source.read(0, source.size_bytes)


def test_a_file_and_a_cut_are_the_same_bytes(
    holdings: Holdings, model: FoundModel, shard: ShardRange, tmp_path: Path
) -> None:
    store = Store(tmp_path / "other")
    kept = ensure_shard(store, model, shard.first, shard.last)
    without = Holdings(store, lambda _model: None)
    assert read(holdings, shard) == read(without, shard) == kept.path.read_bytes()


def test_neither_is_here(tmp_path: Path, shard: ShardRange) -> None:
    nothing = Holdings(Store(tmp_path / "empty"), lambda _model: None)
    with pytest.raises(UnknownModel, match="layers 1 to 5 of model"):
        read(nothing, shard)


def test_a_shard_that_was_damaged_is_cut_anew(
    holdings: Holdings, model: FoundModel, shard: ShardRange, tmp_path: Path
) -> None:
    store = Store(tmp_path / "lender")
    kept = ensure_shard(store, model, shard.first, shard.last)
    right = kept.path.read_bytes()
    kept.path.write_bytes(right[:-1])
    assert read(holdings, shard) == right


@pytest.mark.parametrize("layers", [(0, 7), (5, 5), (6, 9)])
def test_layers_that_no_model_has(
    holdings: Holdings, model: FoundModel, layers: tuple[int, int]
) -> None:
    with pytest.raises(CannotCut):
        read(holdings, ShardRange(model.model, *layers))


def test_another_model(holdings: Holdings) -> None:
    with pytest.raises(UnknownModel):
        read(holdings, ShardRange(ModelId("f" * 64), 1, 2))


def test_what_is_lent_is_not_pruned(model: FoundModel, shard: ShardRange, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    kept = ensure_shard(store, model, shard.first, shard.last)
    holdings = Holdings(store, lambda _model: None)
    with holdings.opened(shard):
        assert not prune(store, 0).removed
    assert [entry.kind for entry in prune(store, 0).removed] == ["shard"]
    assert not kept.path.exists()


def test_several_threads(holdings: Holdings, shard: ShardRange) -> None:
    expected, found = read(holdings, shard), []
    threads = [
        threading.Thread(target=lambda: found.append(read(holdings, shard))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 4
