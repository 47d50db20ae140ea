"""Models in several files, from paths and addresses into the store."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.support.loopback import Site, serving
from tests.support.split_models import rewrite_part, split_model, u16

from atoll.domain.errors import BadModel, PullFailed
from atoll.domain.ids import ModelId
from atoll.model.parts import open_model
from atoll.store.find import find_or_pull
from atoll.store.layout import FoundModel, Store
from atoll.store.parts import part_urls
from atoll.store.pull import PulledModel, pull
from atoll.store.shards import ensure_shard
from atoll.store.web import Limits, Unreachable

RandomModels = Callable[..., Path]
NO_WAIT = Limits(wait=lambda _s: None)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


@pytest.fixture
def single(random_model: RandomModels) -> Path:
    return random_model()


@pytest.fixture
def parts(single: Path, tmp_path: Path) -> list[Path]:
    folder = tmp_path / "parts"
    folder.mkdir()
    return split_model(single, folder, [1, 30], "Some-Model.Q8")


def id_of(parts: list[Path]) -> ModelId:
    return ModelId(hashlib.sha256(b"".join(p.read_bytes() for p in parts)).hexdigest())


def leftovers(store: Store) -> list[str]:
    known = {m.model for m in store.models()} | {"index.json"}
    files = [*store.downloads_dir.iterdir(), *store.models_dir.iterdir()]
    return [f.name for f in files if not f.name.endswith(".lock") and f.name not in known]


def assert_here(store: Store, pulled: PulledModel, parts: list[Path]) -> None:
    assert pulled.model == id_of(parts)
    assert pulled.path == store.model_path(pulled.model)
    assert pulled.path.parent == store.models_dir / pulled.model
    assert pulled.size_bytes == sum(p.stat().st_size for p in parts)
    here = sorted(pulled.path.parent.iterdir())
    assert [p.name for p in here] == [f"model-0000{i}-of-00003.gguf" for i in (1, 2, 3)]
    assert [p.read_bytes() for p in here] == [p.read_bytes() for p in parts]
    assert store.resolve("some-model.q8").path == pulled.path
    assert leftovers(store) == []


def test_from_a_path_to_the_first_part(store: Store, parts: list[Path]) -> None:
    pulled = pull(str(parts[0]), store=store, sha256=id_of(parts))
    assert_here(store, pulled, parts)
    assert (pulled.architecture, pulled.fresh) == ("llama", True)
    # Whoever writes over the files later does not change what is kept.
    assert pulled.path.stat().st_ino != parts[0].stat().st_ino
    assert pull(str(parts[0]), store=store).fresh is False
    assert leftovers(store) == []


def test_copying_is_told(store: Store, parts: list[Path]) -> None:
    phases: set[str] = set()
    pulled = pull(str(parts[0]), store=store, progress=lambda phase, *_: phases.add(phase))
    assert_here(store, pulled, parts)
    assert phases == {"check", "copy"}


def test_parts_that_change_while_they_are_copied(store: Store, parts: list[Path]) -> None:
    def change(phase: str, *_: object) -> None:
        if phase == "copy" and not changed:
            changed.append(phase)
            data = parts[2].read_bytes()
            parts[2].write_bytes(data[:-1] + bytes([data[-1] ^ 1]))

    changed: list[str] = []
    with pytest.raises(PullFailed, match="changed while they were copied"):
        pull(str(parts[0]), store=store, progress=change)
    assert leftovers(store) == []


def test_parts_are_links_into_another_folder(
    store: Store, parts: list[Path], tmp_path: Path
) -> None:
    """As in the caches of model hubs, where files have other names."""
    view = tmp_path / "view"
    view.mkdir()
    for i, part in enumerate(parts):
        blob = part.rename(part.with_name(f"blob{i}"))
        (view / part.name).symlink_to(blob)
    links = [view / part.name for part in parts]
    assert store.resolve(str(links[0])).model == id_of(links)
    assert_here(store, pull(str(links[0]), store=store), links)


@pytest.mark.parametrize("trouble", ["hash", "missing", "order", "second", "mixed", "damaged"])
def test_nothing_unsound_enters_from_a_path(
    store: Store, single: Path, parts: list[Path], trouble: str
) -> None:
    error: type[Exception] = BadModel
    given, problem = parts[0], ""
    if trouble == "hash":
        error, problem = PullFailed, "not the wanted"
    elif trouble == "missing":
        parts[1].unlink()
        problem = "part 2 of 3 of the model is missing"
    elif trouble == "order":
        parts[1].replace(parts[2])
        parts[1].write_bytes(parts[2].read_bytes())
        problem = "not part 3 of 3, but part 2"
    elif trouble == "second":
        given, problem = parts[1], "part 2 of a model in 3 files"
    elif trouble == "mixed":
        rewrite_part(parts[2], {"split.count": u16(2)})
        problem = "another model"
    else:
        parts[2].write_bytes(parts[2].read_bytes()[:-64])
        problem = "part 3 of 3"
    with pytest.raises(error, match=problem):
        pull(str(given), store=store, sha256="0" * 64 if trouble == "hash" else None)
    assert store.models() == []
    assert leftovers(store) == []


def site_of(parts: list[Path], **how: object) -> Site:
    files = {f"/a%20b/{p.name}?x=1": p.read_bytes() for p in parts}
    return Site(b"", files=files, **how)  # type: ignore[arg-type]


def first_url(site: Site) -> str:
    host = urlsplit(site.url).netloc
    return f"http://{host}{next(iter(site.files))}"


@pytest.mark.network
def test_from_the_address_of_the_first_part(store: Store, parts: list[Path]) -> None:
    told: list[int] = []
    with serving(site_of(parts, breaks=2)) as site:
        pulled = pull(
            f"{first_url(site)}#sha256={id_of(parts)}",
            store=store,
            limits=NO_WAIT,
            progress=lambda phase, done, _all: told.append(done) if phase == "download" else None,
        )
        assert_here(store, pulled, parts)
        assert max(told) == pulled.size_bytes
        asked = len(site.seen)
        again = pull(f"{first_url(site)}#sha256={id_of(parts)}", store=store)
        assert (again.fresh, again.model) == (False, pulled.model)
        assert find_or_pull(first_url(site), store).path == pulled.path
        assert len(site.seen) == asked


@pytest.mark.network
def test_an_interrupted_pull_goes_on_with_the_part_it_was_at(
    store: Store, parts: list[Path]
) -> None:
    site = site_of(parts)

    def fail_at_the_second() -> None:
        if parts[1].name in site.paths[-1]:
            site.breaks, site.statuses = 1, [] if len(site.seen) == 2 else [410]

    site.before = fail_at_the_second
    with serving(site):
        with pytest.raises(Unreachable, match="410"):
            pull(first_url(site), store=store, limits=NO_WAIT)
        assert store.models() == []
        site.before, site.statuses, site.breaks = (lambda: None), [], 0
        before = len(site.seen)
        assert_here(store, pull(first_url(site), store=store), parts)
    again = list(zip(site.paths[before:], site.seen[before:], strict=True))
    assert [parts.index(p) for path, _ in again for p in parts if p.name in path] == [0, 1, 2]
    assert again[0][1]["range"] == f"bytes={parts[0].stat().st_size}-"
    assert again[1][1]["range"] == f"bytes={parts[1].stat().st_size // 2}-"
    assert "range" not in again[2][1]


@pytest.mark.network
@pytest.mark.parametrize("trouble", ["hash", "missing", "mixed", "no split", "too large"])
def test_nothing_unsound_enters_from_an_address(
    store: Store, single: Path, parts: list[Path], trouble: str
) -> None:
    error: type[Exception] = BadModel
    limits, fragment, problem = NO_WAIT, "", "another model"
    if trouble == "hash":
        error, fragment, problem = PullFailed, "#sha256=" + "0" * 64, "not the wanted"
    elif trouble == "mixed":
        rewrite_part(parts[2], {"split.count": u16(2)})
    elif trouble == "no split":
        parts[0].write_bytes(single.read_bytes())
        problem = "by its address the model is in 3 files, by its first file in 1"
    elif trouble == "too large":
        sizes = [p.stat().st_size for p in parts]
        error, problem = PullFailed, f"is {sizes[2]} bytes large; at most {sizes[2] - 1}"
        limits = Limits(bytes_max=sum(sizes) - 1, wait=lambda _s: None)
    site = site_of(parts)
    if trouble == "missing":
        del site.files[list(site.files)[2]]
        error, problem = Unreachable, "404"
    with serving(site):
        with pytest.raises(error, match=problem):
            pull(first_url(site) + fragment, store=store, limits=limits)
        if trouble == "no split":
            assert len(site.seen) == 1
    assert store.models() == []
    # What is sound but unfinished stays, to go on with.
    assert bool(leftovers(store)) == (trouble in ("missing", "too large"))


@pytest.mark.parametrize("name", ["m-00002-of-00003.gguf", "m-00001-of-09999.gguf"])
def test_an_address_of_no_first_part_is_not_asked(store: Store, name: str) -> None:
    with pytest.raises(BadModel, match="part"):
        pull(f"https://example.org/{name}", store=store)


def test_addresses_of_parts() -> None:
    names = [f"m-0000{i}-of-00002.gguf" for i in (1, 2)]
    assert part_urls("https://h/x/m-00001-of-00002.gguf?download=true", names) == [
        "https://h/x/m-00001-of-00002.gguf?download=true",
        "https://h/x/m-00002-of-00002.gguf?download=true",
    ]
    with pytest.raises(PullFailed, match="does not end in"):
        part_urls("https://h/x/m-00001%2Dof-00002.gguf", names)


def test_a_path_stands_for_all_its_parts(store: Store, parts: list[Path]) -> None:
    found = store.resolve(str(parts[0]))
    assert found == FoundModel(id_of(parts), parts[0], "some-model.q8")
    changed = parts[2].read_bytes()
    parts[2].write_bytes(changed[:-1] + bytes([changed[-1] ^ 1]))
    os.utime(parts[2], ns=(1, 1))
    assert store.resolve(str(parts[0])).model == id_of(parts) != found.model
    parts[1].unlink()
    with pytest.raises(BadModel, match="part 2 of 3 of the model is missing"):
        store.resolve(str(parts[0]))


def test_files_of_the_store_go_by_their_model(store: Store, parts: list[Path]) -> None:
    pulled = pull(str(parts[0]), store=store)
    assert store.model_of(pulled.path) == pulled.model
    assert store.model_of(parts[0]) is None
    assert find_or_pull(str(pulled.path), store).name == "some-model.q8"


def test_shards_of_parts_and_of_one_file_are_the_same(
    store: Store, single: Path, parts: list[Path]
) -> None:
    one, many = store.resolve(str(single)), store.resolve(str(parts[0]))
    for first, last in ((0, 2), (2, 5), (5, 6)):
        cut = ensure_shard(store, many, first, last)
        assert ensure_shard(store, one, first, last).shard == cut.shard
    whole = ensure_shard(store, many, 0, 6, check_content=True)
    assert (whole.path, str(whole.shard)) == (parts[0], str(many.model))
    assert whole.size_bytes == open_model(parts[0]).file_bytes
    parts[2].write_bytes(parts[2].read_bytes()[:-1] + b"x")
    with pytest.raises(BadModel, match="no longer the model"):
        ensure_shard(store, many, 0, 6, check_content=True)


def test_damaged_parts_are_replaced(store: Store, parts: list[Path]) -> None:
    pulled = pull(str(parts[0]), store=store)
    kept = pulled.path.with_name("model-00003-of-00003.gguf")
    kept.write_bytes(kept.read_bytes()[:-1] + b"x")
    again = pull(str(parts[0]), store=store)
    assert again.fresh
    assert_here(store, again, parts)
