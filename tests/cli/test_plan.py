"""`atoll plan`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Run
from tests.conftest import MakeModel

FLEET = """
[gateway]
ends_ms = { 1 = 2.0 }
[[machines]]
name = "reef"
memory = "1GiB"
layer_ms = { 1 = 0.9, 64 = 4.0 }
[[machines]]
name = "rock"
memory = "1GiB"
layer_ms = { 1 = 1.8, 64 = 8.0 }
[[links]]
between = ["gateway", "rock"]
latency_ms = 500.0
"""
NEAR = """
[[links]]
between = ["gateway", "reef"]
latency_ms = 1.0
mbit_s = 0.5
"""


@pytest.fixture
def asked(random_model: MakeModel, tmp_path: Path) -> list[str]:
    (tmp_path / "fleet.toml").write_text(FLEET)
    return ["plan", str(random_model()), "--fleet", str(tmp_path / "fleet.toml")]


def test_a_plan_for_people(run: Run, asked: list[str]) -> None:
    done = run(*asked)
    assert done.code == 0, done.err
    assert "reef" in done.out
    assert "1-4" in done.out
    assert "foretold ms" in done.out
    assert "measured ms" not in done.out
    assert "reef limits the ring" in done.err
    assert "tokens/s for one stream" in done.err
    assert "prompts enter in chunks of" in done.err
    assert "while others get tokens" in done.err
    # What has no part makes a ring of its own, unless there is to be one only.
    assert "ring 2, for when the others are busy" in done.err
    assert "all 2 rings" in done.err
    done = run(*asked, "--rings", "1")
    assert "without a part, as the ring is faster so: rock" in done.err
    assert "ring 2" not in done.err


def test_a_plan_for_programs(run_plainly: Run, asked: list[str]) -> None:
    done = run_plainly(*asked, "--json", "--context", "64", "--rings", "1")
    made = json.loads(done.out)
    [ring] = made["rings"]
    assert [(s["name"], s["first"], s["last"]) for s in ring["stages"]] == [("reef", 1, 5)]
    assert made["left_out"] == ["rock"]
    assert [(link["from"], link["to"]) for link in ring["links"]] == [
        ("gateway", "reef"),
        ("reef", "gateway"),
    ]
    assert made["tokens_per_s"] == pytest.approx(ring["tokens_per_s"])
    assert ring["token_ms"] == pytest.approx(2.0 + 4 * 0.9, abs=0.1)


def test_prompts_and_rows_as_told(run: Run, asked: list[str], tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text(FLEET + "mbit_s = 0.1\n" + NEAR)

    def ring(*more: str) -> Any:
        [found] = json.loads(run(*asked, "--json", "--rings", "1", *more).out)["rings"]
        return found

    auto = ring()
    assert auto["short_rows"]
    assert 0 < auto["beside_rows"] <= auto["chunk_rows"] <= 512
    assert auto["beside_ms"] <= 100
    assert ring("--chunk-ms", "0")["beside_rows"] == 0
    long, short = ring("--wire", "f16"), ring("--wire", "int8")
    assert not long["short_rows"]
    assert short["links"][0]["window_ms"] == auto["links"][0]["window_ms"]
    assert auto["links"][0]["window_ms"] < long["links"][0]["window_ms"]
    assert "as bytes, for a slow link" in run(*asked).err


def test_what_is_missing_is_said(run: Run, asked: list[str], tmp_path: Path) -> None:
    done = run("plan", "--fleet", asked[-1])
    assert (done.code, "which model?" in done.err) == (2, True)
    done = run("plan", asked[1], "--home", str(tmp_path))
    assert (done.code, "give --fleet FILE" in done.err) == (2, True)
    done = run("plan", "--home", str(tmp_path))
    assert done.code != 0
    assert "no gateway" in done.err


def test_a_model_that_does_not_fit(run: Run, asked: list[str]) -> None:
    done = run(*asked, "--streams", "4000", "--context", "100000")
    assert done.code == 3
    assert "GiB of memory are missing" in done.err
    assert done.out == ""


def test_a_fleet_file_that_is_none(run: Run, asked: list[str], tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text("machines = 5")
    done = run(*asked)
    assert done.code == 2
    assert "cannot be read" in done.err
    done = run(*asked[:-1], str(tmp_path / "absent.toml"))
    assert done.code == 2
    assert "cannot read" in done.err
