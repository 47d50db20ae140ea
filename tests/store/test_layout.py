from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from atoll.domain.errors import AtollError, BadModel, PullFailed
from atoll.domain.ids import ModelId
from atoll.store.layout import (
    Store,
    StoredModel,
    UnknownModel,
    check_whole_model,
    checked_sha256,
    default_home,
    model_name,
    sha256_of,
)

A, B = ModelId("aaaaaa" + "0" * 58), ModelId("aaaaab" + "0" * 58)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


def add(store: Store, model: ModelId, *names: str) -> None:
    store.model_path(model).write_bytes(b"x")
    store.remember(StoredModel(model=model, names=names, architecture="llama", size_bytes=1))


def test_the_home_is_chosen_by_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ATOLL_HOME", str(tmp_path / "mine"))
    assert default_home() == tmp_path / "mine"
    assert Store().models_dir == tmp_path / "mine" / "models"
    monkeypatch.delenv("ATOLL_HOME")
    assert default_home().name == "atoll"


def test_a_home_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(AtollError, match="cannot use") as caught:
        Store(tmp_path / "file")
    assert "ATOLL_HOME" in caught.value.hint


def test_models_are_found_by_name_id_and_prefix(store: Store) -> None:
    add(store, A, "small.q4_1", "llm-small")
    add(store, B, "large.q4_1")
    for argument in ("small.q4_1", "LLM-Small", A, "aaaaaa"):
        assert store.resolve(argument).model == A
    found = store.resolve("large.q4_1")
    assert (found.model, found.name, found.path) == (B, "large.q4_1", store.model_path(B))


def test_what_is_not_here_is_answered_with_what_is(store: Store) -> None:
    with pytest.raises(UnknownModel, match="there is no model 'x'") as caught:
        store.resolve("x")
    assert "atoll pull" in caught.value.hint
    add(store, A, "small.q4_1")
    with pytest.raises(UnknownModel) as caught:
        store.resolve("aaaa")  # too short for a prefix
    assert "small.q4_1" in caught.value.hint


def test_a_prefix_of_two_models_is_not_guessed(store: Store) -> None:
    other = ModelId("aaaaaa" + "1" * 58)
    add(store, A, "one")
    add(store, other, "two")
    with pytest.raises(UnknownModel, match="any of aaaaaa000000, aaaaaa111111"):
        store.resolve("aaaaaa")


def test_a_name_belongs_to_the_last_model_pulled_under_it(store: Store) -> None:
    add(store, A, "model", "old")
    add(store, B, "model")
    assert store.resolve("model").model == B
    assert store.resolve("old").model == A


def test_no_name_passes_for_the_hash_of_another_model(store: Store) -> None:
    add(store, A, "one")
    add(store, B, str(A), "aaaaaa", "facade", "aaaaa")
    for hash_or_start in (str(A), str(A).upper(), str(A)[:12], "aaaaaa"):
        assert store.resolve(hash_or_start).model == A
    for name in (f"model-{A}", "model-aaaaaa", "model-facade", "aaaaa"):
        assert store.resolve(name).model == B


def test_a_hash_stands_for_its_model_whatever_names_the_index_holds(store: Store) -> None:
    add(store, A, "one")
    add(store, B, "two")
    index = store.models_dir / "index.json"
    index.write_text(index.read_text().replace('"two"', f'"{A}"'))
    assert store.resolve(str(A)).model == A


def test_a_model_whose_file_is_gone_is_not_here(store: Store) -> None:
    add(store, A, "one")
    store.model_path(A).unlink()
    assert store.models() == []
    with pytest.raises(UnknownModel):
        store.resolve("one")


def test_a_path_stands_for_its_content(store: Store, random_model: Callable[..., Path]) -> None:
    path = random_model()
    found = store.resolve(str(path))
    assert (found.model, found.path, found.name) == (sha256_of(path), path, path.stem)


def test_a_changed_file_gets_another_id(
    store: Store, random_model: Callable[..., Path], tmp_path: Path
) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(random_model().read_bytes())
    before = store.resolve(str(path)).model
    path.write_bytes(random_model(seed=1).read_bytes())
    after = store.resolve(str(path)).model
    assert before != after == sha256_of(path)


def test_a_path_to_something_else_is_a_bad_model(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"no model")
    with pytest.raises(BadModel, match="not a GGUF file"):
        store.resolve(str(path))
    with pytest.raises(BadModel, match="cannot read"):
        store.resolve(str(tmp_path / "missing.gguf"))


def test_a_damaged_index_is_not_overwritten(store: Store) -> None:
    index = store.models_dir / "index.json"
    index.write_bytes(b"{ half")
    with pytest.raises(AtollError, match="cannot read the list"):
        store.models()
    with pytest.raises(AtollError, match="cannot read the list"):
        add(store, A, "one")
    assert index.read_bytes() == b"{ half"


def test_many_at_once_lose_no_entry(store: Store) -> None:
    ids = [ModelId(f"{i:064x}") for i in range(12)]
    threads = [
        threading.Thread(target=add, args=(Store(store.home), model, f"m{i}"))
        for i, model in enumerate(ids)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {m.model for m in store.models()} == set(ids)


@pytest.mark.parametrize(
    ("file_name", "name"),
    [
        ("SmolLM2-135M-Instruct.Q4_1.gguf", "smollm2-135m-instruct.q4_1"),
        ("my model (1).GGUF", "my-model-1"),
        ("..gguf", "model"),
        ("\x1b[2J/../x.gguf", "2j-..-x"),
        ("n" * 500, "n" * 128),
    ],
)
def test_names_come_from_files_without_harmful_characters(file_name: str, name: str) -> None:
    assert model_name(file_name) == name


def test_a_hash_is_64_digits() -> None:
    assert checked_sha256(" " + "AB" * 32) == "ab" * 32
    with pytest.raises(PullFailed, match="not a SHA-256"):
        checked_sha256("ab")


def test_only_whole_models_enter(random_model: Callable[..., Path]) -> None:
    assert check_whole_model(random_model("gemma3")).architecture == "gemma3"
