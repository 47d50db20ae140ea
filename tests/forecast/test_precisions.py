"""Bits of a weight by the format's name."""

from __future__ import annotations

import pytest

from atoll.domain.errors import BadRequest
from atoll.forecast.precisions import bits_of


@pytest.mark.parametrize(
    ("precision", "bits"),
    [
        ("FP16", 16.0),
        ("Q4_0", 4.5),
        ("mxfp4", 4.25),
        (" FP8 ", 8.0),
        ("BF16 weights, FP8 KV", 16.0),
        ("8-bit", 8.5),
    ],
)
def test_formats(precision: str, bits: float) -> None:
    assert bits_of(precision) == bits


@pytest.mark.parametrize("precision", ["", "Q17", "not stated"])
def test_no_format(precision: str) -> None:
    with pytest.raises(BadRequest, match="no known precision"):
        bits_of(precision)
