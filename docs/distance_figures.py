"""Draws the pictures of explanation/distance.md from one run of `python -m bench distance`.

    python -m bench distance --json > docs/distance.json
    python -m docs.distance_figures [--check]

A test checks that they are current.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pygal
from docs.charts import chart, text, written

RUN = Path(__file__).with_name("distance.json")
SIDES = {
    "peer": "llama.cpp RPC",
    "none": "no guesses",
    "lookup": "prompt lookup",
    "draft": "lookup and a draft model",
}


def picture(run: dict[str, Any], streams: str, title: str, limits: dict[str, str]) -> str:
    """Tokens a second over the delay of each link, for each side that was measured.

    Args:
        run: What the benchmark printed.
        streams: Which of its columns: "one" or "sixteen".
        title: Above the picture.
        limits: Names of the run's limits, and what they are called.
    """
    made = chart(pygal.Line, title, logarithmic=True)
    delays = list(run["tokens_per_s"])
    made.x_labels = [f"{delay} ms" for delay in delays]
    for side, name in SIDES.items():
        rates = [run["tokens_per_s"][delay].get(f"{streams}_{side}") for delay in delays]
        if any(rate is not None for rate in rates):
            made.add(name, rates)
    for key, name in limits.items():
        values = [run["limits"][delay][key] for delay in delays]
        made.add(name, values, stroke_style={"dasharray": "6, 4"}, show_dots=False)
    return text(made)


def figures() -> dict[str, str]:
    """All of them, by file name."""
    run = json.loads(RUN.read_text("utf-8"))
    limits = {
        "compute": "limit: computing alone",
        "compute_and_loop": "limit: computing and loops",
    }
    one = "tokens per second of one stream by delay of each link"
    many = "tokens per second of sixteen streams by delay of each link"
    return {
        "one-stream.svg": picture(run, "one", one, limits),
        "sixteen-streams.svg": picture(run, "sixteen", many, {}),
    }


if __name__ == "__main__":
    sys.exit(written(figures(), sys.argv[1:]))
