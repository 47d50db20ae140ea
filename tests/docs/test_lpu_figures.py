"""Tables of the page on LPUs follow from the compiler."""

from __future__ import annotations

import pytest
from docs.lpu_figures import PAGE, compiled, layer_cycles, limits, page_with_tables, waits


@pytest.mark.long
def test_the_page_is_current() -> None:
    page = PAGE.read_text("utf-8")
    assert page == page_with_tables(page), "run: .venv/bin/python -m docs.lpu_figures"


def test_what_a_layer_waits_for_is_current() -> None:
    assert waits() in PAGE.read_text("utf-8"), "run: .venv/bin/python -m docs.lpu_figures"


@pytest.mark.long
def test_what_the_page_says_follows() -> None:
    wide, narrow = (layer_cycles(compiled("Llama-3.1-8B", n, "int8")) for n in (8, 1))
    assert 4 < narrow / wide < 8, "eight chips divide the weights and nothing else"
    assert "Llama-2-70B" in limits()
