"""Many runs: each depends on its case alone, wherever it is run."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from atoll.domain.errors import AtollError, BadRequest
from atoll.forecast.devices import shipped_devices
from atoll.forecast.fleet_file import Fleet, parse_fleet, parse_fleet_file
from atoll.forecast.models import shipped_models
from atoll.forecast.outlook import Workload
from atoll.forecast.targets import Target
from atoll.sim.serving.arrivals import Arrivals
from atoll.sim.serving.requests import Request
from atoll.sim.serving.sweep import Case, run_case, sweep, sweep_on_ray

DEVICES = shipped_devices()
WORK = Workload(shipped_models().shapes.find("Llama-3.1-8B"), 8.5, 200.0, 50.0)
ASKED = Arrivals(2.0, 30.0, 200, 50, 0.5)


def fleet(line: str) -> Fleet:
    return parse_fleet(line, DEVICES)


def test_workers_come_to_the_same() -> None:
    cases = [
        Case(fleet(line), WORK, ASKED, Target(ttft_s=0.2), seed)
        for line in ("1 x H100 SXM", "2 x RTX 4090 @ 5 ms")
        for seed in (0, 1)
    ]
    heard: list[int] = []
    beside = sweep(cases, workers=2, heard=heard.append)
    assert heard == [1, 2, 3, 4]
    assert beside == [run_case(case) for case in cases]
    assert beside == sweep(cases, workers=1, heard=heard.append)
    assert len({outcome.requests for outcome in beside}) == 2


def test_a_trace_is_the_same_for_all_seeds() -> None:
    case = Case(fleet("1 x H100 SXM"), WORK, (Request(0.0, 100, 10), Request(1.0, 50, 5)))
    assert run_case(case).answer_tokens == 15
    assert run_case(case) == run_case(replace(case, seed=5))


def test_the_system_s_own_machines() -> None:
    case = Case(fleet("4 x RTX 4090 @ 5 ms"), WORK, Arrivals(1.0, 10.0, 100, 20), seed=1)
    machines, steps = run_case(replace(case, detail="machines")), run_case(case)
    assert machines.answer_tokens == steps.answer_tokens
    assert machines.token_s is not None
    assert steps.token_s is not None
    assert machines.token_s.p50 == pytest.approx(steps.token_s.p50, rel=0.15)
    assert (machines.parts, machines.joules_per_token) == ((), None)


@pytest.mark.parametrize(
    "text",
    [
        "[[parts]]\nfleet = '8 x H100 SXM'",
        "[[parts]]\nfleet = '4 x RTX 4090 @ 5 ms'\nleave = 0.1",
        "[[parts]]\nfleet = '4 x RTX 4090 @ 5 ms'\n[[parts]]\nfleet = '4 x RTX 4090 @ 5 ms'",
    ],
)
def test_what_those_cannot_be_run_for_is_refused(text: str) -> None:
    found = parse_fleet_file(text, DEVICES, source="f")
    with pytest.raises(BadRequest, match="own machines"):
        run_case(Case(found, WORK, ASKED, detail="machines"))


def test_a_worker_s_refusal_is_told() -> None:
    cases = [Case(fleet("8 x Groq LPU v1"), WORK, ASKED, seed=seed) for seed in (0, 1)]
    with pytest.raises(BadRequest, match="cannot hold") as error:
        sweep(cases, workers=2, heard=lambda _: None)
    assert "of them" in error.value.hint


def test_prompts_apart_hand_caches_over_at_a_rate() -> None:
    text = (
        "handover = '1 GB/s'\n[[parts]]\nfleet = '1 x H100 SXM'\nrole = 'prefill'\n"
        "[[parts]]\nfleet = '1 x H100 SXM'\nrole = 'decode'\n"
    )
    slow = parse_fleet_file(text, DEVICES, source="f")
    fast = replace(slow, handover_rate=1e12)
    asked = (Request(0.0, 1000, 11),)
    one, other = (run_case(Case(f, WORK, asked)) for f in (slow, fast))
    assert one.answer_s is not None
    assert other.answer_s is not None
    caches_s = 1001 * 2 * 8 * 128 * 2 * 32 / 1e9
    assert one.answer_s.p50 - other.answer_s.p50 == pytest.approx(caches_s, rel=0.01)


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(AtollError, match="Ray is not installed") as error:
        sweep_on_ray([], address="local", heard=lambda _: None)
    assert "atoll[ray]" in error.value.hint


@pytest.mark.long
@pytest.mark.timeout(180)
def test_a_cluster_comes_to_the_same() -> None:
    """With the extra `ray`, which is not among the tools: pip install -e '.[ray]'."""
    pytest.importorskip("ray")
    cases = [Case(fleet("1 x H100 SXM"), WORK, ASKED, seed=seed) for seed in (0, 1)]
    heard: list[int] = []
    assert sweep_on_ray(cases, address="local", heard=heard.append) == list(map(run_case, cases))
    assert heard == [1, 2]
    too_small = Case(fleet("8 x Groq LPU v1"), WORK, ASKED)
    with pytest.raises(BadRequest, match="cannot hold"):
        sweep_on_ray([too_small], address="local", heard=lambda _: None)
