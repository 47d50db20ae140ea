"""Vidur on a trace of requests: how fast it simulates, and what it foretells.

    make bench-vidur
    python -m bench.vidur TRACE --profiles FOLDER [--replicas 4] [--rounds 3]

A trace is a CSV file with the columns `at_s,prompt,answer`: when a request comes, and the
lengths of its prompt and its answer in tokens. One that is not there is made. Vidur runs in
a process of one thread, in its own environment (`build_vidur`), with what it knows of
machines (`vidur_profiles`).
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import math
import os
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atoll.domain.errors import AtollError, BadRequest
from bench.build_vidur import built_vidur, vidur_folder
from bench.forecast.score import quantile
from bench.vidur_profiles import VidurSetting, lay_profiles

COLUMNS = ("at_s", "prompt", "answer")
PROMPT_MEAN, ANSWER_MEAN, LENGTHS_SIGMA = 1000, 200, 0.6
LENGTHS_MAX = (3072, 1000)
"""A made prompt and its answer together fit in a context of 4096 tokens."""
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
class Asked:
    """A request: when it comes, and its tokens."""

    at_s: float
    prompt: int
    answer: int


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
        """Simulated requests in a second of the simulation alone."""
        return self.requests / self.simulate_s


def made_trace(count: int, per_s: float, seed: int = 0) -> list[Asked]:
    """Requests of independent people (Poisson), with lengths as people have (log-normal).

    Prompts have 1000 tokens in the mean and answers 200, before the longest are cut.
    """
    source = random.Random(seed)
    # The mean of a log-normal distribution is exp(mu + sigma² / 2).
    mus = [math.log(mean) - LENGTHS_SIGMA**2 / 2 for mean in (PROMPT_MEAN, ANSWER_MEAN)]
    made: list[Asked] = []
    at_s = 0.0
    for _ in range(count):
        at_s += source.expovariate(per_s)
        prompt, answer = (
            max(1, min(most, round(source.lognormvariate(mu, LENGTHS_SIGMA))))
            for mu, most in zip(mus, LENGTHS_MAX, strict=True)
        )
        made.append(Asked(round(at_s, 6), prompt, answer))
    return made


def write_trace(path: Path, trace: Iterable[Asked]) -> None:
    """Write a trace as `read_trace` reads it."""
    lines = (f"{asked.at_s},{asked.prompt},{asked.answer}\n" for asked in trace)
    path.write_text(",".join(COLUMNS) + "\n" + "".join(lines))


def read_trace(path: Path) -> list[Asked]:
    """The requests of a file, in the order in which they come.

    Raises:
        BadRequest: It is none, or a line is no request.
    """
    try:
        lines = list(csv.DictReader(path.read_text().splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadRequest(f"{path} cannot be read: {error}") from None
    found: list[Asked] = []
    for number, line in enumerate(lines, 2):
        try:
            asked = Asked(float(line["at_s"]), int(line["prompt"]), int(line["answer"]))
        except (KeyError, TypeError, ValueError):
            asked = Asked(math.nan, 0, 0)
        earlier = found[-1].at_s if found else 0.0
        if not (earlier <= asked.at_s < math.inf and asked.prompt > 0 and asked.answer > 0):
            raise BadRequest(
                f"{path}, line {number} is no request after the one before it",
                hint=f"columns {','.join(COLUMNS)}, in the order of arrival; lengths above 0",
            )
        found.append(asked)
    if not found:
        raise BadRequest(f"{path} has no requests")
    return found


def replayed(trace: Sequence[Asked], context_tokens: int) -> str:
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
    trace: Sequence[Asked], times: Sequence[tuple[float, float, float]]
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
    trace: Path,
    setting: VidurSetting,
    *,
    profiles: Path,
    caches: Path | None = None,
) -> VidurRun:
    """Have Vidur simulate a trace, in a process of one thread.

    Args:
        python: Of Vidur's environment (`vidur_python`).
        trace: A file that `read_trace` reads.
        setting: The servers that answer it.
        profiles: A folder like `data/profiling` of Vidur's repository.
        caches: Where what it learns from them is kept; beside its environment by default.

    Raises:
        BadRequest: The trace is none, a profile is missing, or Vidur cannot simulate it.
    """
    asked = read_trace(trace)
    lines = replayed(asked, setting.context_tokens)
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
    ttft, tpot = spreads(asked, times)
    return VidurRun(
        requests=len(asked),
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


def main() -> None:
    """Simulate a trace some times over, and print the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.vidur", description=__doc__)
    parser.add_argument("trace", type=Path, help="a CSV file; made if it is not there")
    parser.add_argument("--requests", type=int, default=2000, help="of a made trace")
    parser.add_argument("--per-s", type=float, default=2.0, help="requests a second, if made")
    parser.add_argument("--seed", type=int, default=0, help="of a made trace")
    parser.add_argument("--profiles", type=Path, default=vidur_folder() / "profiles")
    parser.add_argument("--rounds", type=int, default=3)
    for field in dataclasses.fields(VidurSetting):
        kind = type(field.default)
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default)
    asked = parser.parse_args()
    try:
        told = _measured(asked)
    except AtollError as error:
        raise SystemExit(str(error)) from None
    print(json.dumps(told, indent=1))


def _measured(asked: argparse.Namespace) -> dict[str, Any]:
    names = [field.name for field in dataclasses.fields(VidurSetting)]
    setting = VidurSetting(**{name: getattr(asked, name) for name in names})
    python = vidur_python()
    if not asked.trace.exists():
        write_trace(asked.trace, made_trace(asked.requests, asked.per_s, asked.seed))
    runs = [
        run_vidur(python, asked.trace, setting, profiles=asked.profiles)
        for _ in range(asked.rounds)
    ]
    return {
        "requests_per_s": statistics.median(run.requests_per_s for run in runs),
        "requests_per_cpu_s": statistics.median(run.requests / run.cpu_s for run in runs),
        "setting": dataclasses.asdict(setting),
        "runs": [dataclasses.asdict(run) for run in runs],
    }


if __name__ == "__main__":
    main()
