"""`atoll probe` as its user sees it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.conftest import Run
from tests.conftest import MakeModel

from atoll.domain.measure import PROBE_ROWS

pytestmark = pytest.mark.engine


def test_memory_alone(run: Run) -> None:
    found = run("probe", "--gpu", "none")
    assert found.code == 0
    assert "RAM" in found.out
    assert "one layer" not in found.out


def test_layers_are_timed_once_and_kept(run: Run, tmp_path: Path, random_model: MakeModel) -> None:
    model = str(random_model("llama", n_layers=6))
    asked = ("probe", model, "--gpu", "none", "--threads", "1", "--threads-large", "1", "--json")
    found = run(*asked)
    assert found.code == 0
    assert "timing layers 1 and 1-3" in found.err
    measured = json.loads(found.out)["measured"]
    assert [time["rows"] for time in measured["layer_s"]] == list(PROBE_ROWS)
    again = json.loads(run(*asked).out)["measured"]
    assert again["measured_at_s"] == measured["measured_at_s"]
    table = run(*asked[:-1])
    assert "ms a row" in table.out
    assert "on processor, 1 threads for a row and 1 for several" in table.out


def test_what_cannot_be_measured_is_said(run: Run, tmp_path: Path) -> None:
    assert run("probe", "no-such-model").code == 3
    assert run("probe", "--gpu", "seven").code == 2
    assert run("probe", "--gpu", "7").code == 5
