"""Figures of whole models against published latencies."""

from __future__ import annotations

import pytest
from bench.lpu.graphs import timing
from bench.lpu.published import CHIPS, bert_large, llama

from atoll.lpu.compiler.encoder.shape import Shape


def test_an_encoder_is_held_against_what_is_published() -> None:
    small = Shape(timing(), hidden=64, heads=2, inner=96, rows=16)
    found = bert_large(small, layers=2, chips=2, published_s=100e-6)
    assert found["bert_large_us"] > found["bert_large_chip_us"] > 0
    assert found["error_bert_large"] == pytest.approx(
        abs(found["bert_large_us"] / 100 - 1), abs=1e-3
    )


@pytest.mark.long
def test_llama_on_the_chips_of_the_published_system() -> None:
    placed = llama(CHIPS)
    assert placed.chips_used <= CHIPS
    assert 30e-6 < placed.token_s / placed.wanted.shape.layers < 60e-6
