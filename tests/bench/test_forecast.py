"""The harness that holds forecasts against published results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import msgspec
import pytest
from bench.forecast import local, own
from bench.forecast import run as forecast_run
from bench.forecast.cases import Apart, Case
from bench.forecast.fit import fit
from bench.forecast.rows import COLUMNS, FOLDS, SPLITS, Row, read_rows, shipped_rows
from bench.forecast.score import Scores, error_of, quantile, score, sort_out
from tests.conftest import MakeModel

from atoll.domain.errors import BadRequest
from atoll.domain.ids import ModelId
from atoll.forecast.constants import Constant, Constants, shipped_fit
from atoll.forecast.devices import Device, Timing
from atoll.store.layout import FoundModel
from bench import simulate

HEAD = ",".join(COLUMNS)
LINE = "llama.cpp CUDA,RTX 3090,1,Llama-2-7B,Q4_0,1,0,128,tg128,158.2,tok/s,somewhere"
RATE = Constant("rate", 1.0, (1.0, 1.0), "a guess")


@pytest.mark.parametrize(
    ("device", "host"),
    [
        ("Pi 5 - 8GB (AMD RX 7600 [llama.cpp Vulkan]) (GPU)", "small"),
        ("Pi 500+ - 16GB (AMD RX 9070 XT [llama.cpp Vulkan]) (GPU)", "small"),
        ("Minisforum MS-R1 (Nvidia RTX A2000) (GPU)", "small"),
        ("Ryzen 9 9950X (AMD 7900 XT) (GPU)", ""),
    ],
)
def test_hosts_that_are_small(device: str, host: str) -> None:
    [row] = read_rows(f"{HEAD}\n{LINE.replace('RTX 3090', device)}", source="made")
    assert local.where(row)[1] == host


def a_row(value: float, line: int = 1, text: str = LINE) -> Row:
    [row] = read_rows(f"{HEAD}\n{text}", source="made")
    return Row(**{**{name: getattr(row, name) for name in COLUMNS}, "value": value, "line": line})


def test_every_row_is_forecast_or_set_apart_with_a_reason() -> None:
    rows = shipped_rows()
    cases, apart = sort_out(rows)
    assert len(rows) == len(cases) + len(apart)
    assert {case.row.line for case in cases} | {one.row.line for one in apart} == {
        row.line for row in rows
    }
    assert len(cases) > 300
    assert all(one.reason for one in apart)
    constants = shipped_fit().constants
    assert all(case.predict(constants) > 0 for case in cases)


def test_the_carried_constants_are_of_these_rows() -> None:
    """Written anew when a cost model changes: fitted rows are near what was measured."""
    cases, _ = sort_out(shipped_rows())
    constants = shipped_fit().constants
    for key in ("local", "throughput", "serving_tpot", "power", "lpu", "wide"):
        errors = [abs(error_of(case, constants)) for case in cases if case.key == key]
        assert quantile(errors, 0.5) <= shipped_fit().errors[key].median


def test_folds_follow_from_the_row_alone() -> None:
    cases, _ = sort_out(shipped_rows())
    again, _ = sort_out(shipped_rows())
    for split in range(SPLITS):
        folds = [case.fold(split) for case in cases]
        assert folds == [case.fold(split) for case in again]
        assert set(folds) == set(range(FOLDS))
    assert [case.fold(0) for case in cases] != [case.fold(1) for case in cases]
    assert a_row(158.2).digest != a_row(158.3).digest


def test_rows_of_one_run_stay_together() -> None:
    cases, _ = sort_out(shipped_rows())
    [run] = {case.run for case in cases if case.run}
    for split in range(SPLITS):
        assert len({case.fold(split) for case in cases if case.run == run}) == 1


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("system,device\nx,y", "has no column 'n_devices'"),
        ("", "has no column 'system'"),
        (f"{HEAD}\n{LINE.replace('158.2', 'fast')}", "line 2: 'fast' is no measured value"),
        (f"{HEAD}\n{LINE.replace('158.2', '-1')}", "line 2: '-1' is no measured value"),
        (f"{HEAD}\n{LINE.replace('158.2', 'nan')}", "is no measured value"),
        (f"{HEAD}\nllama.cpp", "is no measured value"),
    ],
)
def test_files_that_are_none(text: str, problem: str) -> None:
    with pytest.raises(BadRequest, match=problem):
        list(read_rows(text, source="made"))


def made(name: str, value: float) -> Case:
    predict: Callable[[Constants], float] = lambda c: c.of(RATE, name)  # noqa: E731
    return Case("local", "", a_row(value), predict)


def test_a_fit_finds_what_rows_were_made_with() -> None:
    cases = [made(name, value) for name, value in (("a", 2.0), ("b", 8.0)) for _ in range(5)]
    found = fit(cases)
    assert found.of(RATE, "a") == pytest.approx(2.0, rel=0.02)
    assert found.of(RATE, "b") == pytest.approx(8.0, rel=0.02)
    # Of what was not measured: between them, as all that is known.
    assert 2.0 < found.of(RATE, "c") < 8.0


def test_a_broken_row_does_not_draw_the_others_along() -> None:
    cases = [made("a", 2.0) for _ in range(9)] + [made("a", 200.0)]
    assert fit(cases).of(RATE, "a") == pytest.approx(2.0, rel=0.03)


def test_rows_of_one_run_are_scored_as_one() -> None:
    predict: Callable[[Constants], float] = lambda _c: 1.0  # noqa: E731
    run = [Case("lpu", "", a_row(v), predict, "run") for v in (1.0, 2.0, 4.0)]
    scores = score([*run, Case("lpu", "", a_row(10.0), predict)], Constants())
    assert scores.errors["lpu"] == pytest.approx([0.5, 0.9])
    assert scores.figures() == {"lpu_median": 0.7, "lpu_n": 4}


@pytest.mark.parametrize(("share", "value"), [(0.0, 1.0), (0.5, 2.5), (0.9, 3.7), (1.0, 4.0)])
def test_quantiles(share: float, value: float) -> None:
    assert quantile([4.0, 1.0, 3.0, 2.0], share) == pytest.approx(value)


def test_other_rows_are_scored_without_a_fit(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(f"{HEAD}\n{LINE}\n{LINE.replace('RTX 3090', 'an abacus')}\n")
    found = forecast_run.run(str(path))
    assert found["local_n"] == 1
    assert found["local_median"] < 0.3
    assert found["apart"] == 1


def test_rings_and_simulations_are_left_out_where_they_are_not_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise AssertionError("asked for")

    monkeypatch.setattr(own, "run", refuse)
    monkeypatch.setattr(simulate, "run", refuse)
    monkeypatch.setattr(forecast_run, "cross_validated", lambda _cases: Scores())
    assert "own_n" not in forecast_run.run(with_own=False, with_sim=False)
    path = tmp_path / "mine.csv"
    path.write_text(f"{HEAD}\n{LINE}\n")
    assert "own_n" not in forecast_run.run(str(path))
    monkeypatch.setattr(own, "run", lambda: {"own_n": 3})
    monkeypatch.setattr(simulate, "run", lambda rounds: {"rounds": rounds})
    found = forecast_run.run()
    assert (found["own_n"], found["rounds"]) == (3, 1)


def test_errors_of_own_rings() -> None:
    settings = [own.Setting(n, 5.0, n * 1e-3, 2e-3) for n in (1, 2, 3)]
    assert [setting.error for setting in settings] == pytest.approx([-0.5, 0.0, 0.5])
    found = own.figures(settings)
    assert (found["own_median"], found["own_p90"], found["own_n"]) == (0.5, 0.5, 3)
    assert found["own_settings"][0] == [1, 5.0, 1.0, 2.0]


def test_an_own_ring_is_a_model_hops_and_ways(random_model: MakeModel) -> None:
    path = random_model("llama", n_layers=6)
    model = FoundModel(ModelId("a" * 64), path, "random")
    reef = Device("reef", "cpu", 8e9, 1e9, {}, timing=Timing(100e-6, 1e-3, 32.0))
    near, far = (own.forecast_s(reef, model, 3, way_s) for way_s in (0.0, 5e-3))
    # Three nodes and the gateway are four ways, none of which counts for less than it is.
    assert far - near == pytest.approx(4 * 5e-3, rel=0.02)
    assert near - own.forecast_s(reef, model, 1, 0.0) == pytest.approx(2 * 1e-3)
    assert near == pytest.approx(6 * 100e-6 + 4 * 1e-3 + path.stat().st_size / 1e9, rel=0.1)


@pytest.mark.long
@pytest.mark.engine
@pytest.mark.network
def test_an_own_ring_is_measured() -> None:
    found = own.run(sizes=(1, 2), ways_ms=(0.0, 5.0))
    assert found["own_n"] == 4
    assert all(measured > 0 for *_, measured in found["own_settings"])


def test_rows_of_any_words_are_forecast_or_set_apart() -> None:
    rows = shipped_rows()
    random = Random(7)
    names = [name for name in COLUMNS if name != "value"]
    words = {name: sorted({getattr(row, name) for row in rows}) for name in names}
    constants = shipped_fit().constants
    for _ in range(5000):
        row = random.choice(rows)
        for name in random.sample(names, 2):
            odd = random.choice(["", "0", "x", "999999", "1e3", "480+-240"])
            word = random.choice([odd, *words[name]])
            row = msgspec.structs.replace(row, **{name: word})
        cases, apart = sort_out([row])
        assert len(cases) + len(apart) == 1
        assert all(case.predict(constants) > 0 for case in cases), row


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("GroqCloud,Groq,,GPT-OSS-120B,,,,,advertised tok/s per user,500,tok/s,x", "marketing"),
        (LINE.replace("RTX 3090", "H100 (variant not stated)"), "variant"),
        (LINE.replace("Llama-2-7B", "Reef-7B"), "no model is called 'Reef-7B'"),
        (LINE.replace("Q4_0", "Q17"), "no known precision"),
        ("Petals,14 servers,14,BLOOM-176B,,1,,,decode,0.83,steps/s,x", "time per token"),
        ("OCI GenAI,unit,1,Llama-3.3-70B,,1,,,TTFT,0.05,s,x", "how many GPUs"),
        ("a tool,a card,1,Llama-2-7B,FP8,1,,,colour,3,red,x", "nothing here forecasts 'colour'"),
    ],
)
def test_reasons(line: str, reason: str) -> None:
    [row] = read_rows(f"{HEAD}\n{line}", source="made")
    [], [one] = sort_out([row])
    assert isinstance(one, Apart)
    assert reason in one.reason
