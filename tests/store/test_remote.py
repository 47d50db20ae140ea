"""Shards of a model behind a web server: the same files as from a local copy."""

from __future__ import annotations

import errno
import hashlib
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.hub_site import HubSite, serving_hub
from tests.support.loopback import Site, serving

from atoll.domain.errors import BadModel, CannotCut, PullFailed
from atoll.domain.ids import ModelId, ShardId
from atoll.model.gguf import open_gguf
from atoll.model.shard import hash_shard
from atoll.store import disk
from atoll.store.layout import FoundModel, Store, UnknownModel, sha256_of
from atoll.store.remote import fetch_shard
from atoll.store.shards import FetchedShard, ensure_shard
from atoll.store.web import Limits, Unreachable

pytestmark = pytest.mark.network

FIRST, LAST = 1, 4


def quick() -> Limits:
    return Limits(backoff_s=0.0, wait=lambda _s: None, silence_s=5.0)


@dataclass
class Remote:
    """A model on a server, and what its shard must be."""

    site: Site
    model: ModelId
    path: Path
    expected: ShardId

    def fetch(self, store: Store, **changes: object) -> FetchedShard:
        arguments = {"expected": self.expected, "limits": quick(), **changes}
        where = str(arguments.pop("where", self.site.url))
        return fetch_shard(store, where, self.model, FIRST, LAST, **arguments)  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


@pytest.fixture
def remote(random_model: Callable[..., Path]) -> Iterator[Remote]:
    path = random_model("llama", n_embd=256, n_ff=512)
    expected = hash_shard(path, FIRST, LAST).shard
    with serving(Site(path.read_bytes())) as site:
        yield Remote(site, ModelId(sha256_of(path)), path, expected)


def left(store: Store, remote: Remote) -> list[str]:
    """What lies beside locks in the model's folder of shards."""
    files = (store.shards_dir / remote.model).iterdir()
    return sorted(f.name for f in files if f.suffix != ".lock")


def test_it_is_the_very_file_that_a_local_copy_gives(
    store: Store, remote: Remote, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    told: list[tuple[int, int | None]] = []
    fetched = remote.fetch(store, progress=lambda *now: told.append(now))
    local = ensure_shard(
        Store(tmp_path / "other"), FoundModel(remote.model, remote.path, "m"), FIRST, LAST
    )
    assert fetched.file.shard == local.shard == sha256_of(fetched.file.path)
    assert fetched.file.path.read_bytes() == local.path.read_bytes()
    assert left(store, remote) == ["1-4.gguf", "1-4.json", "head.bin", "head.json"]
    assert told[-1] == (local.size_bytes, local.size_bytes)
    assert "shard.fetched layers=1-4" in caplog.text
    # A local cut takes it for its own.
    model = FoundModel(remote.model, remote.path, "m")
    assert ensure_shard(store, model, FIRST, LAST, expected=remote.expected) == fetched.file


def test_what_is_here_is_not_asked_for_again(store: Store, remote: Remote) -> None:
    first = remote.fetch(store)
    asked = len(remote.site.seen)
    again = remote.fetch(store)
    assert (again.file, again.fetched_bytes) == (first.file, 0)
    assert len(remote.site.seen) == asked


@pytest.mark.parametrize(("first", "last"), [(0, 2), (2, 5), (3, 6)])
def test_the_head_is_fetched_once_for_all_shards(
    store: Store, remote: Remote, first: int, last: int
) -> None:
    remote.fetch(store)
    expected = hash_shard(remote.path, first, last).shard
    found = fetch_shard(
        store, remote.site.url, remote.model, first, last, expected=expected, limits=quick()
    )
    assert sha256_of(found.file.path) == expected
    assert found.ratio <= 1.02


def test_few_requests_are_made(store: Store, remote: Remote) -> None:
    remote.fetch(store)
    assert len(remote.site.seen) <= 4


@pytest.mark.parametrize("trouble", ["breaks", "stalls", "statuses"])
def test_trouble_on_the_way_is_overcome(store: Store, remote: Remote, trouble: str) -> None:
    if trouble == "statuses":
        remote.site.statuses = [503, 429]
    else:
        setattr(remote.site, trouble, 3)
    limits = Limits(backoff_s=0.0, wait=lambda _s: None, silence_s=0.2)
    found = remote.fetch(store, limits=limits)
    assert sha256_of(found.file.path) == remote.expected


def stop_in_the_middle(store: Store, remote: Remote) -> int:
    """Fetch until most is here, then fail; returns the bytes that are kept."""

    class Stopped(Exception):
        pass

    def stop(done: int, total: int | None) -> None:
        assert total is not None
        if done > total // 2:
            raise Stopped

    with pytest.raises(Stopped):
        remote.fetch(store, progress=stop)
    return (store.shards_dir / remote.model / "1-4.part").stat().st_size


def test_a_later_fetch_goes_on_where_an_earlier_one_was_stopped(
    store: Store, remote: Remote
) -> None:
    kept = stop_in_the_middle(store, remote)
    assert kept > 0
    found = remote.fetch(store)
    assert sha256_of(found.file.path) == remote.expected
    assert found.fetched_bytes <= found.file.size_bytes - kept + 64 * 1024
    assert "1-4.part" not in left(store, remote)


def test_a_server_that_died_is_taken_up_when_it_is_back(store: Store, remote: Remote) -> None:
    def die() -> None:
        if len(remote.site.seen) >= 2:
            remote.site.statuses = [503]

    remote.site.before, remote.site.breaks = die, 2
    with pytest.raises(Unreachable, match="broke off"):
        remote.fetch(store)
    remote.site.before, remote.site.statuses = lambda: None, []
    assert sha256_of(remote.fetch(store).file.path) == remote.expected


@pytest.mark.parametrize("etag", ['"two"', ""])
def test_another_file_since_then_is_not_mixed_with_the_old(
    store: Store, remote: Remote, etag: str, random_model: Callable[..., Path]
) -> None:
    good = remote.site.content
    remote.site.content = random_model("llama", n_embd=256, n_ff=512, seed=3).read_bytes()
    remote.site.etag = "" if not etag else '"one"'
    stop_in_the_middle(store, remote)
    remote.site.content, remote.site.etag = good, etag
    found = remote.fetch(store)
    assert sha256_of(found.file.path) == remote.expected


def test_a_file_that_changes_under_way_is_refused(store: Store, remote: Remote) -> None:
    def change() -> None:
        remote.site.etag = f'"{len(remote.site.seen)}"'

    remote.site.before = change
    with pytest.raises(PullFailed, match="changed while it was read"):
        remote.fetch(store)
    assert left(store, remote) == []


def test_another_model_at_the_address_leaves_nothing(
    store: Store, remote: Remote, random_model: Callable[..., Path]
) -> None:
    remote.site.content = random_model("llama", n_embd=256, n_ff=512, seed=3).read_bytes()
    with pytest.raises(BadModel, match="but the plan says") as caught:
        remote.fetch(store)
    assert "same model file" in caught.value.hint
    assert left(store, remote) == []


@pytest.mark.parametrize(
    "content", [b"<html>not here</html>", b"GGUF" + bytes(100), b"GGUF\x03\x00\x00\x00" * 1000]
)
def test_something_else_at_the_address(store: Store, remote: Remote, content: bytes) -> None:
    remote.site.content = content
    with pytest.raises(BadModel):
        remote.fetch(store)
    assert left(store, remote) == []


def test_a_head_that_claims_too_much_is_not_fetched(store: Store, remote: Remote) -> None:
    """Counts and lengths are checked against the file's size before anything more is read."""
    good = bytearray(remote.site.content)
    good[16:24] = (2**40).to_bytes(8, "little")
    remote.site.content = bytes(good)
    with pytest.raises(BadModel, match="metadata keys"):
        remote.fetch(store)
    assert len(remote.site.seen) == 1


def test_a_server_without_ranges(store: Store, remote: Remote) -> None:
    remote.site.ranges = False
    with pytest.raises(PullFailed, match="no parts of files"):
        remote.fetch(store)


def test_damaged_content_is_noticed(store: Store, remote: Remote) -> None:
    """One bit of one weight."""
    content = bytearray(remote.site.content)
    content[len(content) // 2] ^= 1
    remote.site.content = bytes(content)
    with pytest.raises(BadModel, match="hash to"):
        remote.fetch(store)
    assert left(store, remote) == []


def test_a_damaged_part_is_fetched_again(store: Store, remote: Remote) -> None:
    stop_in_the_middle(store, remote)
    part = store.shards_dir / remote.model / "1-4.part"
    data = bytearray(part.read_bytes())
    data[1000] ^= 1
    part.write_bytes(data)
    assert sha256_of(remote.fetch(store).file.path) == remote.expected


@pytest.mark.parametrize("how", ["too long", "note damaged", "head damaged"])
def test_odd_leftovers_do_no_harm(store: Store, remote: Remote, how: str) -> None:
    stop_in_the_middle(store, remote)
    folder = store.shards_dir / remote.model
    if how == "too long":
        with (folder / "1-4.part").open("ab") as part:
            part.write(bytes(10 << 20))
    elif how == "note damaged":
        (folder / "1-4.part.json").write_bytes(b"{")
    else:
        (folder / "head.bin").write_bytes(b"GGUF and nonsense" * 100)
    assert sha256_of(remote.fetch(store).file.path) == remote.expected


def test_no_room_is_told_before_the_layers_are_fetched(
    store: Store, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "DISK_SPARE_BYTES", 2**62)
    with pytest.raises(PullFailed, match="do not fit"):
        remote.fetch(store)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_disk_that_fills_up_under_way(
    store: Store, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_in_the_middle(store, remote)
    real_open = Path.open

    def open_full(path: Path, mode: str = "r", *rest: object) -> object:
        if path.suffix == ".part" and "a" in mode:
            return real_open(Path("/dev/full"), "ab", *rest)  # type: ignore[call-overload]
        return real_open(path, mode, *rest)  # type: ignore[call-overload]

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", open_full)
        with pytest.raises(PullFailed, match="cannot write") as caught:
            remote.fetch(store)
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.ENOSPC
    assert sha256_of(remote.fetch(store).file.path) == remote.expected


def test_a_range_that_is_none(store: Store, remote: Remote) -> None:
    with pytest.raises(CannotCut):
        fetch_shard(
            store, remote.site.url, remote.model, 4, 9, expected=remote.expected, limits=quick()
        )


def test_all_layers_are_the_model(store: Store, remote: Remote) -> None:
    whole = fetch_shard(
        store, remote.site.url, remote.model, 0, 6, expected=ShardId(remote.model), limits=quick()
    )
    assert whole.file.path == store.model_path(remote.model)
    assert str(whole.file.shard) == str(remote.model)


def test_an_address_may_name_its_hash(store: Store, remote: Remote) -> None:
    remote.fetch(store, where=f"{remote.site.url}#sha256={remote.model}")
    with pytest.raises(UnknownModel, match="not "):
        remote.fetch(Store(store.home / "2"), where=f"{remote.site.url}#sha256={'0' * 64}")


def test_two_at_once_fetch_one_file(store: Store, remote: Remote) -> None:
    found: list[FetchedShard] = []
    threads = [
        threading.Thread(target=lambda: found.append(remote.fetch(Store(store.home))))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [f.file.shard for f in found] == [remote.expected] * 3
    assert sorted(f.fetched_bytes > 0 for f in found) == [False, False, True]


class TestHub:
    """From the Hub: its commit, its hash, its CDN."""

    @pytest.fixture
    def hub(self, remote: Remote, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubSite]:
        with serving_hub(HubSite(Site(remote.path.read_bytes()))) as site:
            for key, value in site.environment.items():
                monkeypatch.setenv(key, value)
            monkeypatch.delenv("HF_TOKEN", raising=False)
            yield site

    def test_layers_come_from_the_cdn(self, store: Store, remote: Remote, hub: HubSite) -> None:
        found = remote.fetch(store, where=hub.source)
        assert sha256_of(found.file.path) == remote.expected
        assert remote.site.seen == []
        assert all("range" in headers for headers in hub.cdn.seen)

    def test_another_model_is_told_before_anything_is_fetched(
        self, store: Store, remote: Remote, hub: HubSite
    ) -> None:
        hub.said_sha256 = hashlib.sha256(b"other").hexdigest()
        with pytest.raises(UnknownModel, match="is the model"):
            remote.fetch(store, where=hub.source)
        assert hub.cdn.seen == []


def test_a_wrong_hint_costs_time_and_nothing_else(store: Store, remote: Remote) -> None:
    for offset in (1, 100_000, len(remote.site.content) - 5, 2**50):
        found = remote.fetch(Store(store.home / str(offset)), data_offset=offset)
        assert sha256_of(found.file.path) == remote.expected


class TestDemoModel:
    """Shards of 20 MB: what they cost."""

    @pytest.fixture
    def site(self, demo_model: Path) -> Iterator[Site]:
        with serving(Site(demo_model.read_bytes())) as site:
            yield site

    def fetch(
        self, store: Store, site: Site, path: Path, first: int, last: int, data_offset: int
    ) -> FetchedShard:
        model, expected = ModelId(sha256_of(path)), hash_shard(path, first, last).shard
        found = fetch_shard(
            store, site.url, model, first, last, expected=expected, data_offset=data_offset
        )
        assert sha256_of(found.file.path) == expected
        assert found.file.size_bytes > 20_000_000
        return found

    def test_little_more_than_themselves(self, store: Store, site: Site, demo_model: Path) -> None:
        offset = open_gguf(demo_model).data_offset
        for first, last in ((1, 10), (10, 19)):
            assert self.fetch(store, site, demo_model, first, last, offset).ratio <= 1.005
        assert len(site.seen) <= 10

    def test_the_head_once_if_nobody_says_where_it_ends(
        self, store: Store, site: Site, demo_model: Path
    ) -> None:
        """1.8 MB, most of it vocabulary; it is kept for the next shard."""
        assert self.fetch(store, site, demo_model, 1, 10, 0).ratio <= 1.11
        assert self.fetch(store, site, demo_model, 10, 19, 0).ratio <= 1.0
        assert len(site.seen) <= 14

    def test_the_last_shard_has_the_vocabulary(
        self, store: Store, site: Site, demo_model: Path
    ) -> None:
        offset = open_gguf(demo_model).data_offset
        assert self.fetch(store, site, demo_model, 29, 30, offset).ratio <= 1.02
