"""What the page on racks and pools says of machines that leave follows from simulated runs."""

from __future__ import annotations

from docs.churn_figures import LEAVE, outcome, page_with_table
from docs.fleet_figures import PAGE


def test_the_page_is_current() -> None:
    page = PAGE.read_text("utf-8")
    assert page == page_with_table(page), "run: .venv/bin/python -m docs.churn_figures"


def test_what_the_page_says_follows() -> None:
    calm, wild = outcome(LEAVE[0]), outcome(LEAVE[-1])
    assert calm.answered == calm.requests == wild.answered == wild.requests
    assert wild.events["machines left"] > 150
    assert calm.token_s is not None
    assert wild.token_s is not None
    assert 1.15 < wild.token_s.p99 / calm.token_s.p99 < 1.25
