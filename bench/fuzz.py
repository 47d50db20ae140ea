"""Fuzzes all that reads bytes of strangers: `fuzz_targets` says what, `fuzz_worker` how.

Each reader runs in processes of its own, several times with other seeds, half of them
guided by coverage where atheris is installed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.fuzz_target import Target
from bench.fuzz_targets import targets

INPUTS = 100_000
INPUTS_PER_RUN = 20_000
"""A new process with another seed after so many."""
RUN_S_MAX = 3600
ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Found:
    """What came of the inputs, by reader."""

    inputs: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    guided: int = 0
    crashes: int = 0
    seconds: float = 0.0


def talk(text: str) -> None:
    """Progress, for people."""
    print(text, file=sys.stderr, flush=True)


def shares(inputs: int, chosen: dict[str, Target]) -> dict[str, int]:
    """How many inputs each reader gets; together at least `inputs`."""
    total = sum(target.share for target in chosen.values())
    return {name: -(-inputs * target.share // total) for name, target in chosen.items()}


def run_worker(name: str, inputs: int, seed: int, *, guided: bool) -> dict[str, Any]:
    """One run of one reader; a death of the process is a crash like others."""
    command = [sys.executable, "-m", "bench.fuzz_worker", name]
    command += ["--inputs", str(inputs), "--seed", str(seed)]
    paths = [str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    with tempfile.TemporaryDirectory(prefix="atoll-corpus-") as folder:
        done = subprocess.run(
            [*command, *(["--guided", folder] if guided else [])],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
            capture_output=True,
            check=False,
            timeout=RUN_S_MAX,
        )
    lines = [line for line in done.stdout.splitlines() if line.startswith(b"{")]
    if done.returncode == 0 and lines:
        reported: dict[str, Any] = json.loads(lines[-1])
        return reported
    words = done.stderr.decode(errors="replace")[-2000:]
    died = {"what": f"the process ended with {done.returncode}: {words}", "input": ""}
    return {"inputs": 0, "refused": 0, "crashes": 1, "shown": [died], "seconds": 0.0}


def run(inputs: int = INPUTS, seed: int = 0, readers: tuple[str, ...] = ()) -> dict[str, Any]:
    """Give so many inputs in all to all readers, or to those that are named."""
    found = Found()
    chosen = {name: one for name, one in targets().items() if not readers or name in readers}
    has_guide = importlib.util.find_spec("atheris") is not None
    left = shares(inputs, chosen)
    while any(left.values()):
        for name in left:
            now = min(left[name], INPUTS_PER_RUN)
            left[name] -= now
            _add(found, name, now, seed, has_guide=has_guide)
        seed += 1
        talk(f"{found.inputs.total()} inputs, {found.crashes} crashes: {dict(found.inputs)}")
    return {
        "fuzz_inputs": found.inputs.total(),
        "fuzz_crashes": found.crashes,
        "guided": found.guided,
        "inputs": dict(found.inputs),
        "refused": dict(found.refused),
        "seconds": round(found.seconds, 1),
    }


def _add(found: Found, name: str, inputs: int, seed: int, *, has_guide: bool) -> None:
    """Run a reader, in two halves where it can be guided."""
    halves = ((inputs // 2, True), (inputs - inputs // 2, False))
    for n, guided in halves if has_guide else ((inputs, False),):
        if n:
            got = run_worker(name, n, seed, guided=guided)
            found.inputs[name] += got["inputs"]
            found.refused[name] += got["refused"]
            found.guided += got["inputs"] if guided else 0
            found.crashes += got["crashes"]
            found.seconds += got["seconds"]
            for crash in got["shown"]:
                talk(f"{name}: {crash['what']}\n  {crash['input']}")
