"""A ring's links as a table: what was foretold beside what is measured."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from rich.table import Table

from atoll.cli.screen import megabytes, printable
from atoll.gateway.link_status import LinkStatus
from atoll.plan.report import LinkReport


def link_table(foretold: Sequence[LinkReport], seen: Sequence[LinkStatus] = ()) -> Table:
    """A row for each link, in the order of the ring.

    Args:
        foretold: Of a plan; a ring of equal parts has none.
        seen: Of a running ring; a plan alone has none.
    """
    headings = ["foretold ms"] if foretold else []
    headings += ["measured ms"] if seen else []
    headings += ["MB/s", "window ms"] if foretold else []
    headings += ["sent MiB"] if seen else []
    table = Table(title="links", title_justify="left")
    for heading in ("from", "to"):
        table.add_column(heading)
    for heading in headings:
        table.add_column(heading, justify="right")
    for plan, link in zip_longest(foretold, seen):
        ends, cells = link or plan, dict.fromkeys(headings, "")
        if plan is not None:
            cells["foretold ms"] = f"{plan.delay_ms:.2f}"
            cells["MB/s"] = f"{plan.bytes_per_s / 1e6:.1f}"
            cells["window ms"] = f"{plan.window_ms:.2f}"
        if link is not None:
            cells["measured ms"] = "" if link.measured_ms is None else f"{link.measured_ms:.2f}"
            cells["sent MiB"] = megabytes(link.sent_bytes)
        table.add_row(printable(ends.source), printable(ends.target), *cells.values())
    return table
