"""All groups of figures of the LPU, one module each."""

from __future__ import annotations

from typing import Any

from bench.lpu import determinism, functional, graphs, products, published

GROUPS = (functional.run, published.run, products.run, graphs.run, determinism.run)
"""Each gives keys of its own."""


def run() -> dict[str, Any]:
    """All figures."""
    found: dict[str, Any] = {}
    for group in GROUPS:
        new = group()
        assert not found.keys() & new.keys(), "two groups give the same key"
        found |= new
    return found
