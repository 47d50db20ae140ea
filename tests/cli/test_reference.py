"""The reference page is what the code says now."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from atoll.cli.app import COMMANDS
from atoll.cli.reference import reference_page

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == reference_page(), "run python -m atoll.cli.reference > that file"


def test_the_page_does_not_depend_on_how_it_is_made() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "atoll.cli.reference"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == PAGE.read_text()


def test_the_page_tells_of_every_command_and_of_common_options_once() -> None:
    page = reference_page()
    assert all(f"\n## atoll {name}\n" in page for name in COMMANDS)
    assert page.count("* `--config PATH`") == 1
    assert page.count("* `--verbose`") == 1
