"""What goes to Vidur and what is made of its answers; the peer itself does not run here."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from bench.build_peers import FOLDER_VARIABLE
from bench.vidur import Spread, replayed, run_vidur, spreads, vidur_python
from bench.vidur_profiles import VidurSetting, profile_files

from atoll.domain.errors import BadRequest
from atoll.sim.serving.requests import Request

SETTING = VidurSetting()
STAND_IN = """#!{python}
import json, sys
asked = json.load(open(sys.argv[3]))
rows = open(asked["trace"]).read().splitlines()[1:]
ats = [float(row.split(",")[1]) for row in rows]
open(asked["cache"] + "/told", "w").write(rows[0])
json.dump({{
    "ready_s": 1.0, "simulate_s": 0.5, "cpu_s": 0.4, "batches": 7, "cache_tokens": 9,
    "times": [[at, at + 1, at + 4] for at in ats],
}}, open(sys.argv[4], "w"))
"""


@pytest.fixture
def profiles(tmp_path: Path) -> Path:
    for path in profile_files(SETTING):
        file = tmp_path / "profiles" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("a,b\n1,2\n")
    return tmp_path / "profiles"


TRACE = [Request(0.5, 100, 4), Request(2.25, 50, 1), Request(2.25, 7, 3)]


def test_a_trace_as_vidur_reads_it() -> None:
    text = replayed([Request(0.5, 100, 4), Request(2.25, 50, 1)], 104)
    assert text.splitlines() == [
        "Date,Time,PromptTokenCount,CompletionTokenCount",
        "2000-01-01,0.5,100,4",
        "2000-01-01,2.25,50,1",
    ]
    with pytest.raises(BadRequest, match="a request of 104 tokens"):
        replayed([Request(0.5, 100, 4)], 103)


def test_times_to_first_and_further_tokens() -> None:
    trace = [Request(0.0, 10, 3), Request(1.0, 10, 1), Request(2.0, 10, 11)]
    times = [(0.0, 1.0, 2.0), (1.0, 3.0, 3.0), (2.0, 5.0, 6.0)]
    ttft, tpot = spreads(trace, times)
    assert (ttft.median_s, ttft.p90_s) == pytest.approx((2.0, 2.8))
    assert (tpot.median_s, tpot.p90_s) == pytest.approx((0.3, 0.46))


@pytest.mark.parametrize(
    "times",
    [
        [(0.0, 1.0, 2.0)],
        [(0.0, 1.0, 2.0), (1.5, 3.0, 3.0)],
        [(0.0, 1.0, 2.0), (1.0, 0.0, 0.0)],
        [(0.0, 1.0, 2.0), (1.0, 3.0, 2.0)],
    ],
)
def test_times_that_are_of_other_requests(times: list[tuple[float, float, float]]) -> None:
    with pytest.raises(RuntimeError, match="not those of the trace"):
        spreads([Request(0.0, 10, 3), Request(1.0, 10, 2)], times)


def test_a_run_by_a_stand_in(tmp_path: Path, profiles: Path) -> None:
    program = tmp_path / "stand-in"
    program.write_text(STAND_IN.format(python=sys.executable))
    program.chmod(0o700)
    run = run_vidur(program, TRACE, SETTING, profiles=profiles, caches=tmp_path / "caches")
    assert (run.requests, run.batches, run.cache_tokens) == (3, 7, 9)
    assert run.requests_per_s == 7.5
    assert run.whole_s > 0
    assert run.simulated_s == 6.25
    assert not run.learned
    assert run.ttft == Spread(1.0, 1.0)
    assert (run.tpot.median_s, run.tpot.p90_s) == pytest.approx((1.25, 1.45))
    [told] = (tmp_path / "caches").glob("*/told")
    assert told.read_text() == "2000-01-01,0.5,100,4"


def test_why_a_run_failed(tmp_path: Path, profiles: Path) -> None:
    """This Python has no Vidur."""
    python = Path(sys.executable)
    with pytest.raises(BadRequest, match="No module named 'vidur'"):
        run_vidur(python, TRACE, SETTING, profiles=profiles, caches=tmp_path / "caches")


def test_where_it_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    with pytest.raises(BadRequest, match="make bench-vidur"):
        vidur_python()
