"""`atoll simulate --fleet` as its user sees it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.conftest import Run
from tests.conftest import MakeModel

FLEET = """
name = "a mix"
[[parts]]
fleet = "2 x H100 SXM"
[[parts]]
fleet = "8 x RTX 4090 @ 20 ms"
machines = 2
leave = 2.0
back = "1 min"
"""
TRACE = "at_s,prompt,answer\n0,200,20\n1,100,30\n2.5,300,10\n"


def test_one_run_in_full(run: Run) -> None:
    done = run(
        *("simulate", "--fleet", "8xh100", "--model", "Llama-3.1-70B", "--rate", "2/s"),
        *("--duration", "30 s", "--slo", "ttft<0.5s"),
    )
    assert done.code == 0
    for words in (
        "first token, s",
        "each token, ms",
        "busy",
        "within the target",
        "joules a token",
    ):
        assert words in done.out


def test_a_fleet_file_and_a_trace(run: Run, tmp_path: Path) -> None:
    fleet, trace = tmp_path / "fleet.toml", tmp_path / "trace.csv"
    fleet.write_text(FLEET)
    trace.write_text(TRACE)
    done = run(
        *("simulate", "--fleet", str(fleet), "--model", "Llama-3.1-8B"),
        *("--trace", str(trace), "--json"),
    )
    assert done.code == 0
    reply = json.loads(done.out)
    (one,) = reply["runs"]
    assert (one["fleet"], one["speed_up"], one["requests_per_s"]) == ("a mix", 1.0, None)
    outcome = one["outcome"]
    assert (outcome["answered"], outcome["answer_tokens"]) == (3, 60)
    assert [part["systems"] for part in outcome["parts"]] == [1, 4]
    assert outcome["first_token_s"]["p50"] > 0


def test_several_runs_are_lines_of_a_table(run: Run, tmp_path: Path) -> None:
    arguments = (
        *("simulate", "--fleet", "1 x H100 SXM", "1 x RTX 4090", "--model", "Llama-3.1-8B"),
        *("--rate", "1/s", "2/s", "--duration", "20 s", "--seeds", "2", "--workers", "1"),
    )
    done = run(*arguments)
    assert done.code == 0
    assert done.out.count("1 x H100 SXM") == 4
    assert "requests/s" in done.out
    found = json.loads(run(*arguments, "--json").out)["runs"]
    assert [(r["requests_per_s"], r["seed"]) for r in found[:4]] == [(1, 0), (1, 1), (2, 0), (2, 1)]


def test_a_trace_can_come_faster(run: Run, tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text(TRACE)
    done = run(
        *("simulate", "--fleet", "1 x H100 SXM", "--model", "Llama-3.1-8B", "--json"),
        *("--trace", str(trace), "--speed-up", "1", "5", "--workers", "1"),
    )
    slow, fast = json.loads(done.out)["runs"]
    assert (slow["speed_up"], fast["speed_up"]) == (1.0, 5.0)
    assert fast["outcome"]["seconds"] < slow["outcome"]["seconds"] - 1


def test_a_model_of_one_s_own(run: Run, random_model: MakeModel) -> None:
    path = random_model("llama")
    done = run(
        *("simulate", "--fleet", "1 x RTX 4090", "--model", str(path), "--rate", "1/s"),
        *("--duration", "5 s", "--json"),
    )
    assert done.code == 0
    assert json.loads(done.out)["model"] == path.stem


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((), "a fleet and a model are needed"),
        (("--fleet", "8xh100"), "a fleet and a model are needed"),
        (("--fleet", "8xh100", "--model", "Llama-3.1-8B"), "there are no requests"),
        (("--fleet", "8 x H101", "--model", "Llama-3.1-8B", "--rate", "1/s"), "no device"),
        (("--fleet", "8xh100", "--model", "Lama", "--rate", "1/s"), "no model is called"),
        (("--fleet", "8xh100", "--model", "Llama-3.1-8B", "--rate", "5"), "is no rate"),
        (
            ("--fleet", "1 x RTX 4090", "--model", "Llama-3.1-405B", "--rate", "1/s"),
            "cannot hold Llama-3.1-405B",
        ),
        (("--fleet", "none.toml", "--model", "Llama-3.1-8B", "--rate", "1/s"), "cannot read"),
        (("--fleet", "8xh100", "--model", "Llama-3.1-8B", "--trace", "none.csv"), "cannot read"),
        (
            ("--fleet", "8xh100", "--model", "Llama-3.1-8B", "--rate", "1/s", "--duration", "5"),
            "has no unit",
        ),
        (
            ("--fleet", "8xh100", "--model", "Llama-3.1-8B", "--rate", "1/s", "--seeds", "99999"),
            "more than 10000",
        ),
    ],
)
def test_what_cannot_be_is_refused(run: Run, arguments: tuple[str, ...], problem: str) -> None:
    done = run("simulate", *arguments)
    assert done.code == 2
    assert problem in done.err
    assert "Traceback" not in done.err


def test_a_trace_has_its_own_rate(run: Run, tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text(TRACE.replace("2.5", "-2"))
    arguments = ("simulate", "--fleet", "8xh100", "--model", "Llama-3.1-8B", "--trace", str(trace))
    assert "has its own rate" in run(*arguments, "--rate", "1/s").err
    assert "line 4" in run(*arguments).err


@pytest.mark.parametrize("ending", ["html", "svg", "png"])
def test_a_report(run: Run, tmp_path: Path, ending: str) -> None:
    report = tmp_path / f"report.{ending}"
    done = run(
        *("simulate", "--fleet", "1 x H100 SXM", "--model", "Llama-3.1-8B", "--rate", "1/s"),
        *("--duration", "5 s", "--report", str(report), "--json"),
    )
    assert done.code == 0
    assert json.loads(done.out)["runs"]
    assert f"report: {report}" in done.err
    begins = {"html": b"<!doctype html", "svg": b"<?xml", "png": b"\x89PNG"}[ending]
    assert report.read_bytes()[: len(begins)].lower() == begins.lower()


def test_a_report_of_another_ending(run: Run, tmp_path: Path) -> None:
    done = run(
        *("simulate", "--fleet", "1 x H100 SXM", "--model", "Llama-3.1-8B", "--rate", "1/s"),
        *("--report", str(tmp_path / "x.pdf")),
    )
    assert done.code == 2
    assert "cannot be written as" in done.err


def test_what_nobody_measured_is_said_to_be_a_bound(run: Run, tmp_path: Path) -> None:
    fleet = tmp_path / "pool.toml"
    fleet.write_text("[[parts]]\nfleet = '1 x H100 SXM'\ncaches = ['1 x EMFASYS']\n")
    done = run(
        *("simulate", "--fleet", str(fleet), "--model", "Llama-3.1-8B", "--rate", "1/s"),
        *("--duration", "5 s"),
    )
    assert done.code == 0
    assert "no measurement of Enfabrica EMFASYS memory node is published" in done.err
