"""What the store holds, and making room in it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from atoll.domain.errors import BadRequest
from atoll.store.cache import CacheEntry, drop_shard, entries, prune, size_bytes_of
from atoll.store.layout import FoundModel, Store, locked
from atoll.store.pull import pull
from atoll.store.shards import ensure_shard, shard_path
from atoll.store.uses import hold, use_path


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


@pytest.fixture
def model(store: Store, random_model: Callable[..., Path]) -> FoundModel:
    pulled = pull(str(random_model()), store=store)
    return FoundModel(pulled.model, pulled.path, pulled.name)


def used_at(path: Path, when_s: int) -> None:
    """Make a file, its note and its lock look as if last used then."""
    for file in path.parent.glob(f"{path.stem}.*"):
        os.utime(file, (when_s, when_s))


def cut(store: Store, model: FoundModel, first: int, last: int, when_s: int) -> Path:
    path = shard_path(store, model.model, first, last)
    held = hold(path)
    ensure_shard(store, model, first, last)
    held.release()
    used_at(path, when_s)
    return path


def part(store: Store, name: str, size: int, when_s: int) -> Path:
    path = store.downloads_dir / f"{name}.part"
    path.write_bytes(bytes(size))
    path.with_suffix(".json").write_text("{}")
    path.with_suffix(".lock").touch()
    used_at(path, when_s)
    return path


def rest(store: Store) -> list[CacheEntry]:
    return [entry for entry in entries(store) if entry.kind != "model"]


def test_an_empty_store(store: Store) -> None:
    assert entries(store) == []
    assert prune(store, 0).removed == ()


def test_all_is_listed_with_size_and_last_use(store: Store, model: FoundModel) -> None:
    shard = cut(store, model, 1, 4, 3000)
    part(store, "abcd", 100, 1000)
    head = shard.parent / "head.bin"
    head.write_bytes(bytes(50))
    used_at(head, 2000)
    fetching = shard.parent / "4-5.part"
    fetching.write_bytes(bytes(70))
    used_at(fetching, 4000)
    (shard.parent / ".5-6.gguf.x7.tmp").write_bytes(bytes(30))

    whole, *others = entries(store)
    assert (whole.kind, whole.name, whole.in_use) == ("model", model.name, None)
    assert whole.size_bytes == model.path.stat().st_size
    found = [(e.kind, e.name.removeprefix(model.name), e.last_used) for e in others[:4]]
    assert found == [
        ("partial", "download abcd", 1000),
        ("head", " head", 2000),
        ("shard", " layers 1-3", 3000),
        ("partial", " layers 4-4", 4000),
    ]
    assert others[4].name.endswith("layers 5-5")
    note = shard.with_suffix(".json").stat().st_size
    assert others[2].size_bytes == shard.stat().st_size + note
    assert not any(entry.in_use for entry in others)


def test_a_shard_of_a_model_that_is_not_here(store: Store) -> None:
    folder = store.shards_dir / ("ab" * 32)
    folder.mkdir()
    (folder / "1-4.gguf").write_bytes(b"x")
    (folder / "notes.txt").write_bytes(b"not ours")
    assert [entry.name for entry in rest(store)] == ["abababababab layers 1-3"]
    prune(store, 0)
    assert not (folder / "1-4.gguf").exists()
    assert (folder / "notes.txt").exists()


def test_the_least_recently_used_goes_first_and_no_more_than_needed(
    store: Store, model: FoundModel
) -> None:
    old, new = cut(store, model, 1, 3, 1000), cut(store, model, 3, 5, 3000)
    middle = part(store, "abcd", 5000, 2000)
    keep = next(e for e in rest(store) if str(new) in e.files).size_bytes
    pruned = prune(store, keep)
    assert [entry.last_used for entry in pruned.removed] == [1000, 2000]
    assert pruned.left_bytes == keep
    assert not old.exists()
    assert not middle.exists()
    assert not middle.with_suffix(".json").exists()
    assert new.exists()
    assert prune(store, keep).removed == ()


def test_a_fresh_use_counts(store: Store, model: FoundModel) -> None:
    old, new = cut(store, model, 1, 3, 1000), cut(store, model, 3, 5, 2000)
    hold(old).release()
    prune(store, old.stat().st_size + 1000)
    assert old.exists()
    assert not new.exists()


def test_what_is_in_use_stays_whatever_the_bound(store: Store, model: FoundModel) -> None:
    used, other = cut(store, model, 1, 3, 1000), cut(store, model, 3, 5, 2000)
    held = hold(used)
    assert [e.in_use for e in rest(store) if str(used) in e.files] == [True]
    pruned = prune(store, 0)
    assert used.exists()
    assert not other.exists()
    assert pruned.left_bytes == pruned.in_use_bytes > used.stat().st_size
    held.release()
    assert prune(store, 0).left_bytes == 0
    assert not used.exists()


def test_what_is_being_fetched_or_cut_stays(store: Store, model: FoundModel) -> None:
    download, shard = part(store, "abcd", 10, 1000), cut(store, model, 1, 3, 1000)
    with locked(download.with_suffix(".lock")), locked(shard.with_suffix(".lock")):
        assert [entry.in_use for entry in rest(store)] == [True, True]
        assert prune(store, 0).removed == ()
    assert len(prune(store, 0).removed) == 2


def test_models_and_their_list_stay(store: Store, model: FoundModel) -> None:
    cut(store, model, 1, 3, 1000)
    prune(store, 0)
    assert model.path.exists()
    assert store.resolve(model.name).model == model.model
    # And the shard is cut again when it is wanted.
    assert ensure_shard(store, model, 1, 3).path.exists()


def test_pruning_while_others_cut_harms_nobody(store: Store, model: FoundModel) -> None:
    """Each of them has a whole shard while it holds it."""
    trouble: list[str] = []

    def use(first: int) -> None:
        for _ in range(10):
            held = hold(shard_path(store, model.model, first, first + 2))
            found = ensure_shard(store, model, first, first + 2)
            if not found.path.exists() or found.path.stat().st_size != found.size_bytes:
                trouble.append(str(found.path))
            held.release()

    users = [threading.Thread(target=use, args=(first,)) for first in (0, 1, 2, 3)]
    for user in users:
        user.start()
    while any(user.is_alive() for user in users):
        prune(store, 0)
    for user in users:
        user.join()
    assert trouble == []


@pytest.mark.parametrize(
    ("text", "size"),
    [
        *(("0", 0), ("17", 17), ("17B", 17), ("20GB", 20 * 10**9), ("20 gb", 20 * 10**9)),
        *(("1.5GiB", 3 * 2**29), ("500M", 5 * 10**8), ("2Ki", 2048), ("3TiB", 3 * 2**40)),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert size_bytes_of(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1", "1e9", "5PB", "1,5GB", "nan", "2 0", "inf", "1i"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(BadRequest, match="is not a size"):
        size_bytes_of(text)


def test_the_lock_of_use_is_beside_its_file() -> None:
    assert use_path(Path("a/1-4.gguf")) == Path("a/1-4.use")


def test_one_shard_is_dropped_unless_it_is_in_use(store: Store, model: FoundModel) -> None:
    assert drop_shard(store, model.model, 1, 2)
    shard, other = ensure_shard(store, model, 1, 2), ensure_shard(store, model, 1, 3)
    using = hold(shard.path)
    assert not drop_shard(store, model.model, 1, 2)
    assert shard.path.exists()
    using.release()
    assert drop_shard(store, model.model, 1, 2)
    assert not shard.path.exists()
    assert not shard.path.with_suffix(".json").exists()
    assert other.path.exists()
    assert ensure_shard(store, model, 1, 2) == shard
