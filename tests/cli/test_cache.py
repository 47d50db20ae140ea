"""`atoll cache` as its user sees it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.conftest import Run
from tests.conftest import MakeModel

from atoll.store.layout import FoundModel, Store
from atoll.store.pull import pull
from atoll.store.shards import ensure_shard
from atoll.store.uses import hold


@pytest.fixture
def shards(tmp_path: Path, random_model: MakeModel) -> tuple[Path, Path]:
    """Two shards in the home of `run`."""
    store = Store(tmp_path / "home")
    pulled = pull(str(random_model()), store=store)
    model = FoundModel(pulled.model, pulled.path, pulled.name)
    one, two = (ensure_shard(store, model, *layers).path for layers in ((1, 3), (3, 5)))
    return one, two


def test_what_is_there_is_shown(run: Run, run_plainly: Run, shards: tuple[Path, Path]) -> None:
    shown = run_plainly("cache")
    assert shown.code == 0
    assert "layers 1-2" in shown.out
    assert "layers 3-4" in shown.out
    assert "what can be had again" in shown.err
    assert run("cache", "list").out == shown.out


def test_the_list_as_json(run: Run, shards: tuple[Path, Path]) -> None:
    held = hold(shards[0])
    reply = json.loads(run("cache", "--json").out)
    held.release()
    assert [entry["kind"] for entry in reply["entries"]] == ["model", "shard", "shard"]
    in_use = {file: entry["in_use"] for entry in reply["entries"] for file in entry["files"]}
    assert (in_use[str(shards[0])], in_use[str(shards[1])]) == (True, False)
    sizes = [entry["size_bytes"] for entry in reply["entries"]]
    assert (reply["models_bytes"], reply["prunable_bytes"]) == (sizes[0], sum(sizes[1:]))


def test_room_is_made_but_not_at_the_cost_of_who_runs(run: Run, shards: tuple[Path, Path]) -> None:
    assert run("cache", "prune", "--max", "1GB").out == ""
    held = hold(shards[0])
    pruned = run("cache", "prune")
    assert pruned.code == 0
    assert "removed" in pruned.out
    assert "layers 3-4" in pruned.out
    assert "stay because running processes use them" in pruned.err
    assert (shards[0].exists(), shards[1].exists()) == (True, False)
    held.release()
    reply = json.loads(run("cache", "prune", "--json").out)
    assert (len(reply["removed"]), reply["left_bytes"]) == (1, 0)


def test_the_bound_may_be_a_setting(run: Run, shards: tuple[Path, Path]) -> None:
    assert run("cache", "prune", ATOLL_CACHE_MAX="1GB").out == ""
    assert shards[0].exists()


@pytest.mark.parametrize("arguments", [("prune", "--max", "lots"), ("clean",)])
def test_bad_input(run: Run, shards: tuple[Path, Path], arguments: tuple[str, ...]) -> None:
    refused = run("cache", *arguments)
    assert refused.code == 2
    assert refused.err.startswith("error: ")
    assert shards[0].exists()
