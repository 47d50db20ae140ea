"""The pictures of the page on planning are what the planner says today."""

from __future__ import annotations

import pytest
from docs.planning_figures import FOLDER, figures

PAGE = FOLDER.parent / "planning.md"


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.svg")))
def test_a_picture_is_current_and_shown(name: str) -> None:
    assert (FOLDER / name).read_text("utf-8") == figures()[name], (
        "draw them again: python -m docs.planning_figures"
    )
    assert f"figures/{name}" in PAGE.read_text("utf-8")


def test_all_are_there() -> None:
    assert set(figures()) == {path.name for path in FOLDER.glob("*.svg")}
