"""A name of the store, or a source."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.conftest import MakeModel
from tests.support.loopback import Site, serving

from atoll.domain.errors import PullFailed
from atoll.store.find import find_or_pull, give_name
from atoll.store.layout import Store, UnknownModel
from atoll.store.pull import pull


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


def test_names_and_files_are_found_where_they_are(store: Store, random_model: MakeModel) -> None:
    path = random_model()
    assert find_or_pull(str(path), store).path == path
    model = pull(str(path), store=store).model
    assert find_or_pull(path.stem, store).path == store.model_path(model)
    assert find_or_pull(model[:10], store).model == model
    assert find_or_pull(str(store.model_path(model)), store).name == path.stem
    with pytest.raises(UnknownModel):
        find_or_pull("nosuch", store)


@pytest.mark.network
def test_an_address_is_pulled_once(store: Store, random_model: MakeModel) -> None:
    phases: set[str] = set()
    with serving(Site(random_model().read_bytes())) as site:
        first = find_or_pull(
            site.url, store, progress=lambda phase, _done, _total: phases.add(phase)
        )
        asked = len(site.seen)
        assert asked >= 1
        assert find_or_pull(site.url, store) == first
        assert len(site.seen) == asked
    assert "download" in phases
    assert first.path == store.model_path(first.model)
    assert first.name == "model"


def test_a_source_that_cannot_be_pulled(store: Store) -> None:
    with pytest.raises(PullFailed):
        find_or_pull("ftp://192.0.2.1/model.gguf", store)
    with pytest.raises(PullFailed):
        find_or_pull("pypi:--not a package", store)


def test_a_further_name_becomes_the_first(store: Store, random_model: MakeModel) -> None:
    pulled = pull(str(random_model()), store=store)
    assert give_name(store, pulled.model, "My Model") == "my-model"
    assert store.resolve("my-model").name == "my-model"
    assert store.resolve(pulled.name).model == pulled.model
    assert give_name(store, pulled.model, "C0FFEE") == "model-c0ffee"
    assert [m.source for m in store.models()] == [str(random_model())]
