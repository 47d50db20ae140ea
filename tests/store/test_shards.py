from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from atoll.domain.errors import BadModel, CannotCut
from atoll.domain.ids import ShardId
from atoll.model.shard import hash_shard
from atoll.store.layout import FoundModel, Store, sha256_of
from atoll.store.shards import ShardFile, ensure_shard


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


@pytest.fixture
def model(store: Store, random_model: Callable[..., Path]) -> FoundModel:
    return store.resolve(str(random_model()))


def test_a_shard_is_cut_once_and_kept(store: Store, model: FoundModel) -> None:
    found = ensure_shard(store, model, 1, 4)
    digest = hash_shard(model.path, 1, 4)
    assert (found.shard, found.size_bytes) == (digest.shard, digest.size_bytes)
    assert sha256_of(found.path) == found.shard
    written = found.path.stat().st_mtime_ns
    assert ensure_shard(store, model, 1, 4, expected=digest.shard) == found
    assert found.path.stat().st_mtime_ns == written


def test_other_ranges_and_models_do_not_mix(
    store: Store, model: FoundModel, random_model: Callable[..., Path]
) -> None:
    other = store.resolve(str(random_model(seed=7)))
    found = {ensure_shard(store, m, a, b).path for m in (model, other) for a, b in ((0, 2), (2, 6))}
    assert len({sha256_of(path) for path in found}) == 4


def test_the_whole_model_is_not_copied(store: Store, model: FoundModel) -> None:
    found = ensure_shard(store, model, 0, 6)
    assert found.path == model.path
    assert str(found.shard) == str(model.model)


def test_another_shard_than_planned_is_refused(store: Store, model: FoundModel) -> None:
    for first, last in ((1, 4), (0, 6)):
        with pytest.raises(BadModel, match="but the plan says 000000000000"):
            ensure_shard(store, model, first, last, expected=ShardId("0" * 64))


@pytest.mark.parametrize("damage", ["content", "length", "note", "note missing"])
def test_a_damaged_shard_is_cut_again(store: Store, model: FoundModel, damage: str) -> None:
    found = ensure_shard(store, model, 1, 4)
    good = found.path.read_bytes()
    note = found.path.with_suffix(".json")
    if damage == "content":
        found.path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    elif damage == "length":
        found.path.write_bytes(good[:-1])
    elif damage == "note":
        note.write_bytes(b"{")
    else:
        note.unlink()
    assert ensure_shard(store, model, 1, 4).shard == found.shard
    assert found.path.read_bytes() == good


def test_silent_damage_is_found_when_a_hash_is_expected(store: Store, model: FoundModel) -> None:
    import os

    found = ensure_shard(store, model, 1, 4)
    state, good = found.path.stat(), found.path.read_bytes()
    found.path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    os.utime(found.path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert ensure_shard(store, model, 1, 4, expected=found.shard).shard == found.shard
    assert found.path.read_bytes() == good


def test_a_model_that_was_changed_in_the_store_is_told(
    store: Store, model: FoundModel, random_model: Callable[..., Path]
) -> None:
    changed = FoundModel(model.model, random_model(seed=9), model.name)
    with pytest.raises(BadModel, match="no longer the model"):
        ensure_shard(store, changed, 0, 6, check_content=True)


def test_impossible_cuts_leave_nothing(store: Store, model: FoundModel) -> None:
    with pytest.raises(CannotCut):
        ensure_shard(store, model, 4, 9)
    assert list(store.shards_dir.iterdir()) == []


def test_two_at_once_cut_one_file(store: Store, model: FoundModel) -> None:
    found: list[ShardFile] = []
    threads = [
        threading.Thread(target=lambda: found.append(ensure_shard(Store(store.home), model, 2, 5)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    assert sha256_of(found[0].path) == found[0].shard
