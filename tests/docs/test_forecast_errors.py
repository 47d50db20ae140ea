"""The page of forecasts shows the errors that the package carries."""

from __future__ import annotations

from docs.forecast_errors import PAGE, WHAT, page_with_table, table

from atoll.forecast.constants import shipped_fit


def test_the_page_is_current() -> None:
    page = PAGE.read_text("utf-8")
    assert page == page_with_table(page), "run: .venv/bin/python -m docs.forecast_errors"


def test_every_kind_of_forecast_has_a_row() -> None:
    assert set(WHAT) == set(shipped_fit().errors)
    assert len(table().splitlines()) == 2 + len(WHAT)
