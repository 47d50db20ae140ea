"""A model's shape from the `config.json` that the Hugging Face Hub has of it.

Keys are those of `transformers` configurations; a model of several parts has its language
part under `text_config`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from atoll.domain.errors import BadRequest
from atoll.forecast.shapes import Latent, ModelShape, check_shape

_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
_PARTS = ("text_config", "language_config", "llm_config")


def shape_of_config(text: bytes | str, *, name: str) -> ModelShape:
    """The shape that a configuration describes.

    Args:
        text: The file, JSON.
        name: What to call the model.

    Raises:
        BadRequest: It is no JSON object, lacks what a decoder has, or describes no model.
    """
    try:
        config = msgspec.json.decode(text, type=dict[str, Any])
        for part in _PARTS:
            if isinstance(config.get(part), dict):
                config = {**config, **config[part]}
        shape = _shape(config, name)
    except (msgspec.MsgspecError, TypeError, ValueError, ZeroDivisionError) as error:
        raise BadRequest(
            f"the configuration of {name} cannot be read: {error}",
            hint="give the config.json of a decoder model",
        ) from error
    except KeyError as error:
        raise BadRequest(
            f"the configuration of {name} has no {error.args[0]!r}",
            hint="give the config.json of a decoder model",
        ) from error
    check_shape(shape)
    return shape


def _shape(config: dict[str, Any], name: str) -> ModelShape:
    heads = int(config["num_attention_heads"])
    hidden = int(config["hidden_size"])
    experts = next((int(config[key]) for key in _EXPERTS if config.get(key)), 0)
    ffn = int(config.get("intermediate_size") or 0)
    windowed = config.get("sliding_window") and config.get("use_sliding_window", True)
    return ModelShape(
        name=name,
        layers=int(config["num_hidden_layers"]),
        hidden=hidden,
        heads=heads,
        kv_heads=int(config.get("num_key_value_heads") or heads),
        head_dim=int(config.get("head_dim") or hidden // heads),
        ffn=ffn,
        vocab=int(config["vocab_size"]),
        tied=bool(config.get("tie_word_embeddings", False)),
        experts=experts,
        experts_used=int(config.get("num_experts_per_tok") or 0) if experts else 0,
        shared_experts=int(config.get("n_shared_experts") or 0),
        expert_ffn=int(config.get("moe_intermediate_size") or ffn) if experts else 0,
        dense_layers=int(config.get("first_k_dense_replace") or 0) if experts else 0,
        latent=_latent(config),
        window=int(config["sliding_window"]) if windowed else 0,
        window_every=_window_every(config) if windowed else 1,
    )


def _latent(config: dict[str, Any]) -> Latent | None:
    if not config.get("kv_lora_rank"):
        return None
    return Latent(
        q_rank=int(config.get("q_lora_rank") or 0),
        kv_rank=int(config["kv_lora_rank"]),
        rope_dim=int(config["qk_rope_head_dim"]),
        nope_dim=int(config["qk_nope_head_dim"]),
        v_dim=int(config["v_head_dim"]),
    )


def _window_every(config: dict[str, Any]) -> int:
    """Of how many layers one sees everything; 1: none does."""
    if kinds := config.get("layer_types"):
        full = sum(kind == "full_attention" for kind in kinds)
        return round(len(kinds) / full) if full else 1
    return int(config.get("sliding_window_pattern") or 1)
