"""The pictures of the page on planning are what the planner says today."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXPLANATION = Path(__file__).parents[2] / "docs" / "explanation"


def test_they_are_current() -> None:
    # In a process of its own: the library of charts changes how modules are imported.
    done = subprocess.run(
        [sys.executable, "-m", "docs.planning_figures", "--check"],
        cwd=EXPLANATION.parents[1],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{done.stderr}draw them again: python -m docs.planning_figures"


def test_all_are_shown() -> None:
    page = (EXPLANATION / "planning.md").read_text("utf-8")
    pictures = sorted(path.name for path in (EXPLANATION / "figures").iterdir())
    assert pictures
    assert [name for name in pictures if f"figures/{name}" not in page] == []
