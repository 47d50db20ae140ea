"""Vidur on a trace of requests: how fast it simulates, and what it foretells.

It runs in a process of one thread, in its own environment (`build_vidur`), with what it knows
of machines (`vidur_profiles`).
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atoll.domain.errors import BadRequest
from atoll.sim.serving.requests import Request
from bench.build_vidur import built_vidur, vidur_folder
from bench.forecast.score import quantile
from bench.vidur_profiles import VidurSetting, lay_profiles

DATE = "2000-01-01"
"""Vidur replays one day of a trace; all of ours is on this one."""
LIMIT_S = 3600.0
ALONE = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "HF_HUB_OFFLINE": "1",
    "WANDB_MODE": "disabled",
}
"""One thread, and nothing asked of a network."""
_CHILD = Path(__file__).parent / "vidur_child.py"


@dataclass(frozen=True, slots=True)
class Spread:
    """Half of all requests are below the median, nine tenths below p90; seconds."""

    median_s: float
    p90_s: float


@dataclass(frozen=True, slots=True)
class VidurRun:
    """What a simulation took, and what it foretold.

    `simulate_s` is the simulation alone, `cpu_s` the processor's time in it, `ready_s` what
    came before: reading the trace, and learning step times (`learned`) or loading them.
    `whole_s` is the process from start to end, with imports. `cache_tokens` is what
    a server's memory holds besides the model, `simulated_s` when the last answer ended.
    """

    requests: int
    simulate_s: float
    cpu_s: float
    ready_s: float
    learned: bool
    whole_s: float
    batches: int
    cache_tokens: int
    simulated_s: float
    ttft: Spread
    tpot: Spread

    @property
    def requests_per_s(self) -> float:
        """Simulated requests in a second of the processor, in the simulation alone."""
        return self.requests / self.cpu_s


def replayed(trace: Sequence[Request], context_tokens: int) -> str:
    """The trace as Vidur reads it.

    Raises:
        BadRequest: A request is longer than the context; Vidur would cut its prompt.
    """
    longest = max(asked.prompt + asked.answer for asked in trace)
    if longest > context_tokens:
        raise BadRequest(f"a request of {longest} tokens in a context of {context_tokens}")
    rows = (f"{DATE},{asked.at_s},{asked.prompt},{asked.answer}\n" for asked in trace)
    return "Date,Time,PromptTokenCount,CompletionTokenCount\n" + "".join(rows)


def spreads(
    trace: Sequence[Request], times: Sequence[tuple[float, float, float]]
) -> tuple[Spread, Spread]:
    """Of the time to the first token, and of the time for each further one.

    Args:
        trace: What was asked.
        times: When each request came, had its first token, and its last; seconds.

    Raises:
        RuntimeError: These are times of other requests.
    """
    if len(trace) != len(times) or any(
        not math.isclose(asked.at_s, at_s, abs_tol=1e-6) or not at_s <= first_s <= last_s
        for asked, (at_s, first_s, last_s) in zip(trace, times, strict=True)
    ):
        raise RuntimeError("Vidur's requests are not those of the trace")
    first = [first_s - at_s for at_s, first_s, _ in times]
    further = [
        (last_s - first_s) / (asked.answer - 1)
        for asked, (_, first_s, last_s) in zip(trace, times, strict=True)
        if asked.answer > 1
    ]
    if not further:
        raise RuntimeError("no answer of the trace has a second token")
    ttft, tpot = (Spread(quantile(v, 0.5), quantile(v, 0.9)) for v in (first, further))
    return ttft, tpot


def vidur_python() -> Path:
    """The Python of Vidur's environment.

    Raises:
        BadRequest: It is not there.
    """
    if (python := built_vidur()) is None:
        raise BadRequest(f"Vidur is not in {vidur_folder()}", hint="make bench-vidur installs it")
    return python


def run_vidur(
    python: Path,
    trace: Sequence[Request],
    setting: VidurSetting,
    *,
    profiles: Path,
    caches: Path | None = None,
) -> VidurRun:
    """Have Vidur simulate a trace, in a process of one thread.

    Args:
        python: Of Vidur's environment (`vidur_python`).
        trace: The requests.
        setting: The servers that answer it.
        profiles: A folder like `data/profiling` of Vidur's repository.
        caches: Where what it learns from them is kept; beside its environment by default.

    Raises:
        BadRequest: A profile is missing, or Vidur cannot simulate the trace.
    """
    lines = replayed(trace, setting.context_tokens)
    cache, model, wires = lay_profiles(profiles, setting, caches or vidur_folder() / "caches")
    known = set(cache.glob("predictions/*"))
    with tempfile.TemporaryDirectory(prefix="atoll-vidur-") as name:
        folder = Path(name)
        replay = folder / "trace.csv"
        replay.write_text(lines)
        told = {
            **dataclasses.asdict(setting),
            "trace": str(replay),
            "date": DATE,
            "model_profiles": model,
            "network_profiles": wires,
            "cache": str(cache),
            "output": str(folder / "output"),
        }
        began_s = time.perf_counter()
        found = _simulated(python, folder, told)
        whole_s = time.perf_counter() - began_s
    times = [(at_s, first_s, last_s) for at_s, first_s, last_s in found.pop("times")]
    ttft, tpot = spreads(trace, times)
    return VidurRun(
        requests=len(trace),
        learned=not known.issuperset(cache.glob("predictions/*")),
        whole_s=whole_s,
        simulated_s=max(last_s for _, _, last_s in times),
        ttft=ttft,
        tpot=tpot,
        **found,
    )


def _simulated(python: Path, folder: Path, told: dict[str, Any]) -> dict[str, Any]:
    """What Vidur's process found of what it was told; both go through files in `folder`."""
    asked, found = folder / "asked.json", folder / "found.json"
    asked.write_text(json.dumps(told))
    ended = subprocess.run(
        [python, "-I", _CHILD, asked, found],
        cwd=folder,
        env={**os.environ, **ALONE},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    if ended.returncode:
        raise BadRequest(
            f"Vidur ended with code {ended.returncode}: {ended.stderr[-1500:].strip()}",
            hint="0.0.26 breaks off where memory is short and it would preempt a request:"
            " try a slower trace, or more replicas",
        )
    answer: dict[str, Any] = json.loads(found.read_text())
    return answer
