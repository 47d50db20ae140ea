"""A ring's links as people read them."""

from __future__ import annotations

import io

from rich.console import Console

from atoll.cli.link_table import link_table
from atoll.gateway.link_status import LinkStatus
from atoll.plan.report import LinkReport

FORETOLD = (
    LinkReport("gateway", "reef", 12.5, 3.5e6, 12.75),
    LinkReport("reef", "gateway", 6.25, 7e6, 6.5),
)
SEEN = (
    LinkStatus("gateway", "reef", 12.5, 14.125, 3 << 20),
    LinkStatus("reef", "gateway", 6.25, None, 0),
)


def rows(table: object, width: int = 120) -> list[list[str]]:
    """The cells of each row, the heading's first."""
    out = io.StringIO()
    Console(file=out, width=width, markup=False).print(table)
    lines = [line.strip(" \u2503\u2502") for line in out.getvalue().splitlines()]
    cells = [[cell.strip(" \u2503") for cell in line.split("\u2502")] for line in lines]
    heads = [cell.strip() for cell in lines[2].split("\u2503")]
    return [heads, *(row for row in cells if row[0] in {"gateway", "reef"})]


def test_what_was_foretold_stands_beside_what_is_measured() -> None:
    assert rows(link_table(FORETOLD, SEEN)) == [
        ["from", "to", "foretold ms", "measured ms", "MB/s", "window ms", "sent MiB"],
        ["gateway", "reef", "12.50", "14.12", "3.5", "12.75", "3.0"],
        ["reef", "gateway", "6.25", "", "7.0", "6.50", "0.0"],
    ]


def test_a_plan_alone() -> None:
    assert rows(link_table(FORETOLD))[:2] == [
        ["from", "to", "foretold ms", "MB/s", "window ms"],
        ["gateway", "reef", "12.50", "3.5", "12.75"],
    ]


def test_a_ring_of_equal_parts() -> None:
    assert rows(link_table((), SEEN))[:2] == [
        ["from", "to", "measured ms", "sent MiB"],
        ["gateway", "reef", "14.12", "3.0"],
    ]


def test_a_narrow_terminal_shows_every_number() -> None:
    out = io.StringIO()
    Console(file=out, width=80, markup=False).print(link_table(FORETOLD, SEEN))
    assert "\u2026" not in out.getvalue()


def test_names_are_harmless() -> None:
    out = io.StringIO()
    sly = LinkStatus("[red]x\x1b[2J", "reef", None, 1.0)
    Console(file=out, width=80, markup=False).print(link_table((), (sly,)))
    assert "[red]x\ufffd[2J" in out.getvalue()
