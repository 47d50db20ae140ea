"""`atoll pull` as its user sees it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from tests.cli.conftest import Run
from tests.conftest import MakeModel
from tests.support.hub_site import TOKEN, HubSite, serving_hub
from tests.support.loopback import Site
from tests.support.split_models import split_model

from atoll.store.layout import Store


def test_a_file_is_pulled_and_named(
    run: Run, run_plainly: Run, tmp_path: Path, random_model: MakeModel
) -> None:
    model = random_model()
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    pulled = run_plainly("pull", str(model), "--name", "Mine!")
    assert pulled.code == 0
    assert pulled.out.split()[0] == "mine"
    assert digest in pulled.out
    # Nobody watches, so there is no bar.
    assert pulled.err == "Pulled.\n"

    store = Store(tmp_path / "home")
    assert store.resolve("mine").model == digest
    assert store.resolve(model.stem).model == digest
    again = run("pull", str(model))
    assert again.code == 0
    assert "here already" in again.err


def test_a_model_in_several_files(run: Run, tmp_path: Path, random_model: MakeModel) -> None:
    parts = split_model(random_model(), tmp_path, [10, 20], "split")
    digest = hashlib.sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()
    pulled = run("pull", str(parts[0]), "--sha256", digest)
    assert pulled.code == 0
    assert pulled.out.split()[0] == "split"
    assert pulled.out.split()[-1] == digest
    refused = run("pull", str(parts[1]))
    assert refused.code == 3
    assert "part 2 of a model in 3 files" in refused.err


@pytest.mark.network
def test_a_file_of_the_hub_with_a_token_that_nobody_sees(
    run: Run, tmp_path: Path, random_model: MakeModel
) -> None:
    site = HubSite(Site(random_model().read_bytes()), gated=True)
    with serving_hub(site):
        refused = run("pull", site.source, HF_TOKEN="", **site.environment)
        assert refused.code == 4
        assert "is gated" in refused.err
        assert "hint: accept its conditions at" in refused.err
        settings = {**site.environment, "HF_TOKEN": TOKEN, "ATOLL_LOG": "debug"}
        pulled = run("pull", site.source, **settings)
    assert (pulled.code, pulled.out.split()[0]) == (0, "model.q4")
    assert TOKEN not in pulled.out + pulled.err


def test_the_result_as_json(run: Run, tmp_path: Path, random_model: MakeModel) -> None:
    model = random_model()
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    reply = json.loads(run("pull", str(model), "--json", "--sha256", digest).out)
    assert reply == {
        "model": digest,
        "name": model.stem,
        "path": str(tmp_path / "home" / "models" / f"{digest}.gguf"),
        "architecture": "llama",
        "size_bytes": model.stat().st_size,
        "fresh": True,
    }


def test_another_store_can_be_named(run: Run, tmp_path: Path, random_model: MakeModel) -> None:
    elsewhere = tmp_path / "elsewhere"
    assert run("pull", str(random_model()), "--store", str(elsewhere)).code == 0
    assert len(Store(elsewhere).models()) == 1
    assert Store(tmp_path / "home").models() == []


def test_a_wrong_hash_keeps_nothing(run: Run, tmp_path: Path, random_model: MakeModel) -> None:
    refused = run("pull", str(random_model()), "--sha256", "0" * 64)
    assert refused.code == 4
    assert "not the wanted" in refused.err
    assert Store(tmp_path / "home").models() == []


def test_a_file_that_is_no_model(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + bytes(100))
    refused = run("pull", str(tmp_path / "bad.gguf"))
    assert refused.code == 3
    assert refused.err.startswith("error: ")
