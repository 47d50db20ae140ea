"""Chips with a fixed schedule: a time for each layer, whatever the bandwidth."""

from __future__ import annotations

import pytest

from atoll.forecast.constants import Constants, shipped_fit
from atoll.forecast.lpu import EXPERTS_S, FIRST_S, LAYER_S, WIDTH_S, first_token_s, token_s
from atoll.forecast.models import shipped_models

BARE = Constants()
SHAPES = shipped_models().shapes


def test_by_hand() -> None:
    shape = SHAPES.find("Llama-3.1-8B")
    assert token_s(shape, BARE) == pytest.approx(32 * (LAYER_S.value + 4096 * WIDTH_S.value))
    assert first_token_s(BARE) == FIRST_S.value
    experts = SHAPES.find("gpt-oss-120b")
    dense = 36 * (LAYER_S.value + 2880 * WIDTH_S.value)
    assert token_s(experts, BARE) - dense == pytest.approx(36 * EXPERTS_S.value)


@pytest.mark.parametrize("name", ["Llama-3.1-8B", "Llama-3.1-70B", "Llama-2-70B"])
def test_a_layer_takes_what_published_systems_show(name: str) -> None:
    shape = SHAPES.find(name)
    layer_s = token_s(shape, shipped_fit().constants) / shape.layers
    assert 30e-6 < layer_s < 55e-6
