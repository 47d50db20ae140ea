"""The page of architectures shows the table that the code uses."""

from __future__ import annotations

from docs.architecture_table import PAGE, page_with_table, table

from atoll.model.architectures import TABLE


def test_the_page_is_current() -> None:
    page = PAGE.read_text("utf-8")
    assert page == page_with_table(page), "run: .venv/bin/python -m docs.architecture_table"


def test_every_architecture_has_a_row() -> None:
    rows = table().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == list(TABLE)


def test_only_what_lies_between_the_marks_is_replaced() -> None:
    page = "a\n<!-- table: begin -->\nold\n<!-- table: end -->\nb\n"
    new = page_with_table(page)
    assert new.startswith("a\n<!-- table: begin -->\n| Architecture")
    assert new.endswith("|\n<!-- table: end -->\nb\n")
    assert "old" not in new
