"""A report as data."""

from __future__ import annotations

import pytest

from atoll.report.charts import BarChart, LineChart
from atoll.report.page import Page, Table

BARS = BarChart("b", "s", (), ())
LINES = LineChart("l", "x", "y", ())


def test_the_charts_of_a_page_in_order() -> None:
    table = Table("t", ("a",), (("1",),))
    assert Page("p", (), "", (LINES, table, BARS)).charts == (LINES, BARS)


def test_rows_have_a_cell_for_each_head() -> None:
    with pytest.raises(AssertionError):
        Table("t", ("a", "b"), (("1",),))
