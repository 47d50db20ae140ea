"""Counts of weights and operations, held against published totals and sums done by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from atoll.domain.errors import BadRequest
from atoll.forecast.models import shipped_models
from atoll.forecast.shapes import Latent, ModelShape, check_shape

SMALL = ModelShape("small", 2, 8, 4, 2, 2, 16, 100)
EXPERTS = msgspec.structs.replace(
    SMALL, experts=4, experts_used=1, expert_ffn=8, shared_experts=1, dense_layers=1
)


def test_a_dense_model_by_hand() -> None:
    attention = 8 * (2 * 8 + 2 * 4)
    assert SMALL.attention_params == attention
    assert SMALL.counted_params == 2 * (attention + 3 * 8 * 16) + 2 * 800
    assert SMALL.active_params == SMALL.counted_params - 800
    assert SMALL.kv_values == 2 * 2 * 2
    assert SMALL.token_flops() == 2 * SMALL.active_params
    assert SMALL.token_flops(10) - SMALL.token_flops() == 4 * 8 * 2 * 10


def test_experts_wake_with_the_batch() -> None:
    one, many = EXPERTS.woken_params(1), EXPERTS.woken_params(1000)
    expert = 3 * 8 * 8
    assert one == pytest.approx(many - 3 * expert)
    assert EXPERTS.counted_params == pytest.approx(many + 800)
    assert one < EXPERTS.woken_params(2) < many


def test_latent_attention_keeps_little() -> None:
    latent = msgspec.structs.replace(SMALL, latent=Latent(0, 4, 2, 3, 5))
    assert latent.kv_values == 6
    assert latent.attention_params == 8 * 4 * 5 + 8 * 6 + 4 * 4 * 8 + 4 * 5 * 8
    assert latent.attention_width == 5
    compressed = msgspec.structs.replace(SMALL, latent=Latent(3, 4, 2, 3, 5))
    assert compressed.attention_params == 3 * (8 + 4 * 5) + 8 * 6 + 4 * 4 * 8 + 4 * 5 * 8


@pytest.mark.parametrize(
    ("window", "every", "positions"), [(0, 1, 200), (10, 1, 20), (10, 2, 110), (1000, 2, 200)]
)
def test_windows(window: int, every: int, positions: float) -> None:
    shape = msgspec.structs.replace(SMALL, window=window, window_every=every)
    assert shape.cached_positions(100) == positions


def test_published_totals() -> None:
    shapes = list(shipped_models().shapes)
    assert len(shapes) > 30
    for shape in shapes:
        assert shape.counted_params == pytest.approx(shape.params, rel=0.03), shape.name
        # Publishers count the embedding among what a token needs, or do not.
        low = shape.active_params * 0.92
        high = (shape.active_params + shape.head_params) * 1.08
        assert low <= shape.active <= high, shape.name
        assert shape.source, shape.name


@dataclass
class Wrong:
    fields: dict[str, Any]
    problem: str


@pytest.mark.parametrize(
    "wrong",
    [
        Wrong({"layers": 0}, "out of range"),
        Wrong({"hidden": 1 << 30}, "out of range"),
        Wrong({"kv_heads": 3}, "4 heads share 3 unevenly"),
        Wrong({"experts": 4}, "experts need their number"),
        Wrong({"experts_used": 1, "expert_ffn": 8}, "experts need their number"),
        Wrong({"experts": 2, "experts_used": 3, "expert_ffn": 8}, "more experts"),
        Wrong({"ffn": 0}, "no width"),
        Wrong({"window_every": 0}, "a window out of range"),
        Wrong({"shared_experts": -1}, "experts or layers out of range"),
        Wrong({"dense_layers": -3}, "experts or layers out of range"),
        Wrong({"params": -1.0}, "weights out of range"),
        Wrong({"params": float("nan")}, "weights out of range"),
        Wrong({"active": float("inf")}, "weights out of range"),
        Wrong({"attn_params": -5.0}, "weights out of range"),
        Wrong({"latent": Latent(0, -5, 1, 1, 1)}, "latent attention out of range"),
    ],
    ids=str,
)
def test_what_no_model_is(wrong: Wrong) -> None:
    with pytest.raises(BadRequest, match=wrong.problem):
        check_shape(msgspec.structs.replace(SMALL, **wrong.fields))
