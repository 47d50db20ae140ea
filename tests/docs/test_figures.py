"""The pictures of the documentation are what the planner and the benchmarks say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXPLANATION = Path(__file__).parents[2] / "docs" / "explanation"


@pytest.mark.parametrize("module", ["docs.planning_figures", "docs.distance_figures"])
def test_they_are_current(module: str) -> None:
    # In a process of its own: the library of charts changes how modules are imported.
    done = subprocess.run(
        [sys.executable, "-m", module, "--check"],
        cwd=EXPLANATION.parents[1],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{done.stderr}draw them again: python -m {module}"


def test_all_are_shown() -> None:
    pages = "".join(path.read_text("utf-8") for path in EXPLANATION.glob("*.md"))
    pictures = sorted(path.name for path in (EXPLANATION / "figures").iterdir())
    assert pictures
    assert [name for name in pictures if f"figures/{name}" not in pages] == []
