"""Shapes from configurations of the Hugging Face Hub."""

from __future__ import annotations

import json
from typing import Any

import pytest

from atoll.domain.errors import BadRequest
from atoll.forecast.hf_config import shape_of_config
from atoll.forecast.models import shipped_models

LLAMA: dict[str, Any] = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
}
DEEPSEEK: dict[str, Any] = {
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "num_hidden_layers": 61,
    "n_routed_experts": 256,
    "num_experts_per_tok": 8,
    "n_shared_experts": 1,
    "first_k_dense_replace": 3,
    "q_lora_rank": 1536,
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128,
    "v_head_dim": 128,
    "vocab_size": 129280,
}


@pytest.mark.parametrize(
    ("config", "name"), [(LLAMA, "Llama-3.1-8B"), (DEEPSEEK, "DeepSeek-V3.1-671B")]
)
def test_it_counts_as_the_shape_that_is_carried(config: dict[str, Any], name: str) -> None:
    shape = shape_of_config(json.dumps(config), name="mine")
    carried = shipped_models().shapes.find(name)
    assert shape.counted_params == pytest.approx(carried.counted_params, rel=1e-3)
    assert shape.kv_values == carried.kv_values


def test_the_language_part_of_several() -> None:
    whole = {"vision_config": {"hidden_size": 9}, "text_config": LLAMA}
    assert shape_of_config(json.dumps(whole), name="mine").hidden == 4096


@pytest.mark.parametrize(
    ("more", "window", "every"),
    [
        ({"sliding_window": 128, "layer_types": ["sliding_attention", "full_attention"]}, 128, 2),
        ({"sliding_window": 1024, "sliding_window_pattern": 6}, 1024, 6),
        ({"sliding_window": 4096}, 4096, 1),
        ({"sliding_window": 4096, "use_sliding_window": False}, 0, 1),
        ({"sliding_window": None}, 0, 1),
    ],
)
def test_windows(more: dict[str, Any], window: int, every: int) -> None:
    shape = shape_of_config(json.dumps(LLAMA | more), name="mine")
    assert (shape.window, shape.window_every) == (window, every)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ("{}", "has no 'num_attention_heads'"),
        (json.dumps(LLAMA | {"hidden_size": "wide"}), "cannot be read"),
        (json.dumps(LLAMA | {"hidden_size": None}), "cannot be read"),
        (json.dumps(LLAMA | {"num_attention_heads": 0}), "cannot be read"),
        (json.dumps(LLAMA | {"num_key_value_heads": 7}), "unevenly"),
        (json.dumps(LLAMA | {"num_hidden_layers": 10**9}), "out of range"),
    ],
)
def test_what_is_no_configuration(text: str, problem: str) -> None:
    with pytest.raises(BadRequest) as caught:
        shape_of_config(text, name="mine")
    assert problem in str(caught.value)
