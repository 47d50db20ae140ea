"""`atoll probe` as its user sees it."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from tests.cli.conftest import Run
from tests.conftest import MakeModel

from atoll.cli import probe
from atoll.domain.errors import BadRequest
from atoll.domain.measure import PROBE_ROWS
from atoll.forecast.devices import Device

pytestmark = pytest.mark.engine


def test_memory_alone(run: Run) -> None:
    found = run("probe", "--gpu", "none")
    assert found.code == 0
    assert "RAM" in found.out
    assert "one layer" not in found.out


def test_layers_are_timed_once_and_kept(
    run: Run, run_plainly: Run, tmp_path: Path, random_model: MakeModel
) -> None:
    model = str(random_model("llama", n_layers=6))
    asked = ("probe", model, "--gpu", "none", "--threads", "1", "--threads-large", "1", "--json")
    found = run_plainly(*asked)
    assert found.code == 0
    assert "timing layers 1 and 1-3" in found.err
    measured = json.loads(found.out)["measured"]
    assert [time["rows"] for time in measured["layer_s"]] == list(PROBE_ROWS)
    again = json.loads(run(*asked).out)["measured"]
    assert again["measured_at_s"] == measured["measured_at_s"]
    table = run(*asked[:-1])
    assert "ms a row" in table.out
    assert "on processor, 1 threads for a row and 1 for several" in table.out


def test_the_machine_goes_into_a_catalogue(
    run: Run, tmp_path: Path, random_model: MakeModel
) -> None:
    """Any model is then forecast on it, alone and in a ring."""
    mine = str(tmp_path / "mine.toml")
    wide = {"n_embd": 512, "n_ff": 2048, "n_head": 8, "head_width": 64}
    model = str(random_model("llama", n_layers=5, **wide))
    asked = ("probe", model, "--gpu", "none", "--threads", "1", "--threads-large", "1")
    found = run(*asked, "--catalogue", mine, "--name", "reef")
    assert found.code == 0, found.err
    assert f"{mine} has 'reef'" in found.err
    assert "reef: reads" in found.out
    device = json.loads(run(*asked, "--catalogue", mine, "--json").out)["device"]
    assert device["kind"] == "cpu"
    assert device["timing"]["bits"] == pytest.approx(32, rel=0.01)
    assert len(tomllib.loads(Path(mine).read_text())["devices"]) == 2

    def token_s(model: str, fleet: str) -> float:
        done = run("compare", "--model", model, "--devices", mine, fleet, "--json")
        assert done.code == 0, done.err
        [reply] = json.loads(done.out)["fleets"]
        assert any("was measured" in note for note in reply["notes"])
        return float(reply["token_s"])

    deep = str(random_model("llama", n_layers=10, **wide))
    assert token_s(deep, "reef") == pytest.approx(2 * token_s(model, "reef"), rel=0.05)
    alone, ring = token_s("Llama-3.1-8B", "reef"), token_s("Llama-3.1-8B", "3 x reef @ 1ms")
    assert 0 < alone <= ring


def test_what_no_catalogue_takes_is_refused_before_measuring(
    run: Run, tmp_path: Path, random_model: MakeModel
) -> None:
    path, model = tmp_path / "mine.toml", str(random_model("llama", n_layers=6))

    def refused(*arguments: str) -> str:
        done = run("probe", *arguments, "--gpu", "none")
        assert done.code == 2
        assert "timing layers" not in done.err
        return done.err

    assert "name a model" in refused("--catalogue", str(path))
    assert "cannot write" in refused(model, "--catalogue", str(tmp_path / "nowhere" / "x.toml"))
    assert "cannot be the name" in refused(model, "--catalogue", str(path), "--name", "a @ b")
    assert "goes with --catalogue" in refused(model, "--name", "reef")
    assert not path.exists()
    path.write_text("no TOML")
    assert "mine.toml cannot be read" in refused(model, "--catalogue", str(path))
    assert path.read_text() == "no TOML"


def test_a_device_described_by_hand_stays(
    run: Run, tmp_path: Path, random_model: MakeModel
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[[devices]]\nname = "reef"\nkind = "gpu"\nsource = "weighed by hand"\n')
    before = path.read_text()
    model = str(random_model("llama", n_layers=6))
    done = run("probe", model, "--gpu", "none", "--catalogue", str(path), "--name", "reef")
    assert done.code == 2
    assert "'reef' is described by hand, from 'weighed by hand'" in done.err
    assert "--name" in done.err
    assert "timing layers" not in done.err
    assert path.read_text() == before


def test_what_cannot_be_measured_is_said(run: Run, tmp_path: Path) -> None:
    assert run("probe", "no-such-model").code == 3
    assert run("probe", "--gpu", "seven").code == 2
    assert run("probe", "--gpu", "7").code == 5


def test_absurd_times_are_taken_again(
    tmp_path: Path,
    random_model: MakeModel,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What other work on the machine spoils is measured afresh, three times in all."""
    fresh_asked: list[bool] = []

    async def unclear(*_args: object, fresh: bool, **_more: object) -> Device:
        fresh_asked.append(fresh)
        raise BadRequest("how fast weights are read is not to be seen")

    monkeypatch.setattr(probe, "own_device", unclear)
    options = probe.ProbeFlags(
        catalogue=tmp_path / "mine.toml", name="reef", gpu="none", home=tmp_path, store=tmp_path
    )
    with pytest.raises(BadRequest, match="not to be seen"):
        probe.probe(str(random_model("llama", n_layers=6)), options=options)
    assert fresh_asked == [False, True, True]
    assert capsys.readouterr().err.count("once more") == 2
    assert not (tmp_path / "mine.toml").exists()
