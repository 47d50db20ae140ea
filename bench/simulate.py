"""The serving simulation: ten thousand machines for an hour, and beside Vidur on one trace."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

from atoll.domain.errors import BadRequest
from atoll.forecast.devices import shipped_devices
from atoll.forecast.fleet_file import parse_fleet_file
from atoll.forecast.models import shipped_models
from atoll.forecast.outlook import Workload
from atoll.sim.serving.arrivals import Arrivals, arrive
from atoll.sim.serving.outcome import Outcome
from atoll.sim.serving.requests import Request
from atoll.sim.serving.sweep import Case, run_case
from bench.build_vidur import vidur_folder
from bench.vidur import VidurRun, run_vidur, vidur_python
from bench.vidur_profiles import VidurSetting

NODES = 10_000
HOUR_S = 3600.0
HOMES = f"""
name = "{NODES:,} home machines"
[[parts]]
fleet = "{NODES} x NVIDIA RTX 3060 12GB @ 20 ms"
leave = 0.05
back = "10 min"
"""
HOMES_MODEL, HOMES_BITS = "Llama-3.1-70B", 4.85
HOMES_WORK = Arrivals(100.0, HOUR_S, 500, 250, spread=0.5)
"""About half of what they can serve: four machines a ring, 2,500 rings."""

VIDUR_WORK = Arrivals(0.5, 4000.0, 1000, 200, spread=0.6)
VIDUR_SETTING = VidurSetting()
"""Llama 2 70B on two A100: the only model and devices whose times are published whole."""
VIDUR_FLEET = '[[parts]]\nfleet = "2 x NVIDIA A100 SXM 80GB"\nstreams = 128\n'
VIDUR_MODEL = "Llama-2-70B"
ROUNDS = 3


def run(rounds: int = ROUNDS) -> dict[str, Any]:
    """Both; each in a process of its own, one thread."""
    seconds, gib, homes = _alone(_homes)
    found: dict[str, Any] = {
        "nodes_10000_s": round(seconds, 1),
        "nodes_10000_gib": round(gib, 3),
        "nodes_10000_requests": homes.requests,
        "nodes_10000_answered": homes.answered,
        "nodes_10000_events": homes.events,
    }
    try:
        found |= _beside_vidur(rounds)
    except BadRequest as problem:
        print(f"{problem}; {problem.hint}", file=sys.stderr)
        found["sim_over_vidur"] = None
    return found


def _homes() -> Outcome:
    fleet = parse_fleet_file(HOMES, shipped_devices(), source="homes")
    shape = shipped_models().shapes.find(HOMES_MODEL)
    work = Workload(shape, HOMES_BITS, HOMES_WORK.prompt, HOMES_WORK.answer)
    return run_case(Case(fleet, work, HOMES_WORK))


def _alone(work: Any) -> tuple[float, float, Any]:
    """Seconds, memory at most in GiB, and what came of it."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_timed, work).result()


def _timed(work: Any) -> tuple[float, float, Any]:
    began_s = time.perf_counter()
    found = work()
    seconds = time.perf_counter() - began_s
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, found


def vidur_trace() -> list[Request]:
    """Requests that fit Vidur's context of 4,096 tokens, and its servers' memory."""
    found = arrive(VIDUR_WORK, seed=1)
    return [Request(round(r.at_s, 6), min(r.prompt, 3072), min(r.answer, 1000)) for r in found]


def _ours() -> tuple[float, Outcome]:
    """Requests a second of the processor in the simulation alone, and what it foretells."""
    fleet = parse_fleet_file(VIDUR_FLEET, shipped_devices(), source="servers")
    shape = shipped_models().shapes.find(VIDUR_MODEL)
    trace = tuple(vidur_trace())
    case = Case(fleet, Workload(shape, 16.0, VIDUR_WORK.prompt, VIDUR_WORK.answer), trace)
    began_s = time.process_time()
    outcome = run_case(case)
    return len(trace) / (time.process_time() - began_s), outcome


def _beside_vidur(rounds: int) -> dict[str, Any]:
    """One after the other, in turn: what else the machine does meets both."""
    python, trace = vidur_python(), vidur_trace()
    profiles = vidur_folder() / "profiles"
    ours: list[float] = []
    theirs: list[VidurRun] = []
    for _ in range(rounds):
        theirs.append(run_vidur(python, trace, VIDUR_SETTING, profiles=profiles))
        rate, outcome = _alone(_ours)[2]
        ours.append(rate)
    assert outcome.first_token_s is not None
    assert outcome.token_s is not None
    vidur_rate = statistics.median(run.requests_per_s for run in theirs)
    return {
        "sim_over_vidur": round(statistics.median(ours) / vidur_rate, 1),
        "sim_requests_per_cpu_s": round(statistics.median(ours)),
        "vidur_requests_per_cpu_s": round(vidur_rate, 1),
        "ttft_p50_s": [round(outcome.first_token_s.p50, 3), round(theirs[0].ttft.median_s, 3)],
        "ttft_p90_s": [round(outcome.first_token_s.p90, 3), round(theirs[0].ttft.p90_s, 3)],
        "tpot_p50_ms": [
            round(1e3 * outcome.token_s.p50, 1),
            round(1e3 * theirs[0].tpot.median_s, 1),
        ],
        "tpot_p90_ms": [round(1e3 * outcome.token_s.p90, 1), round(1e3 * theirs[0].tpot.p90_s, 1)],
    }
