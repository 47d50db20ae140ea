"""A report's tables on the terminal."""

from __future__ import annotations

import pytest

from atoll.cli.report_tables import show_table
from atoll.report.page import Table


def test_cells_titles_and_strangers_words(capsys: pytest.CaptureFixture[str]) -> None:
    show_table(Table("All", ("fleet", "W"), (("a\x1b[31m", "12"), ("b", "3"))), "what was found")
    shown = capsys.readouterr().out
    assert "what was found" in shown
    assert "\x1b[31m" not in shown
    # Figures stand on the right of their column.
    assert "│ 12 │" in shown
    assert "│  3 │" in shown
