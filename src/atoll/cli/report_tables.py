"""A report's tables on the terminal."""

from __future__ import annotations

from rich.table import Table

from atoll.cli.screen import data_console, printable
from atoll.report.page import Table as Shown


def show_table(shown: Shown, title: str = "") -> None:
    """The table as a report has it, on standard output."""
    table = Table(title=printable(title) or None)
    for place, head in enumerate(shown.heads):
        table.add_column(head, justify="left" if place in shown.texts else "right")
    for row in shown.rows:
        table.add_row(*map(printable, row))
    data_console().print(table)
