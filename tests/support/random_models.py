"""Small random models that the engine loads, made on the spot.

A few hundred kilobytes each: f32 weights and a byte-level vocabulary in the
SentencePiece manner, so any text can be tokenised.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from atoll.model import gguf_writer
from atoll.model.files import atomic_file
from atoll.model.gguf_types import MetaValue, TensorType, ValueType
from atoll.model.gguf_writer import TensorSpec

BYTE_TOKENS = 256
WORDS = ("\u2581", "\u2581the", "\u2581a", *"etaoinshrdlucmfwypvbgkjqxz", "th", "he", "in", "er")
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


@dataclass(frozen=True)
class RandomModel:
    """Shape of a random model; `window_pattern` None leaves the engine's default.

    `keys` are more metadata, without the architecture's name in front.
    """

    architecture: str = "llama"
    n_layers: int = 6
    n_embd: int = 64
    n_head: int = 4
    n_head_kv: int | tuple[int, ...] = 2
    n_ff: int | tuple[int, ...] = 96
    head_width: int = 16
    context: int = 512
    window: int = 0
    window_pattern: int | tuple[bool, ...] | None = None
    n_expert: int = 0
    n_expert_used: int | tuple[int, ...] = 2
    keys: tuple[tuple[str, int | float | str], ...] = ()
    tied: bool = True
    rope_freqs: bool = False
    output_bias: bool = False
    seed: int = 0


def gemma3(**overrides: object) -> RandomModel:
    """A gemma3 model whose heads are wider than n_embd / n_head, as in the real ones."""
    shape: dict[str, object] = {
        "architecture": "gemma3",
        "n_layers": 8,
        "head_width": 32,
        "window": 32,
        "window_pattern": 3,
    }
    return RandomModel(**(shape | overrides))  # type: ignore[arg-type]


def gemma2(**overrides: object) -> RandomModel:
    """A gemma2 model, whose width is no square: sqrt(n_embd) is no power of two."""
    shape: dict[str, object] = {
        "architecture": "gemma2",
        "n_layers": 7,
        "n_embd": 96,
        "head_width": 32,
        "window": 32,
    }
    return RandomModel(**(shape | overrides))  # type: ignore[arg-type]


def qwen3moe(**overrides: object) -> RandomModel:
    """A qwen3moe model of eight experts, of which each token goes to three."""
    shape: dict[str, object] = {
        "architecture": "qwen3moe",
        "head_width": 32,
        "n_expert": 8,
        "n_expert_used": 3,
    }
    return RandomModel(**(shape | overrides))  # type: ignore[arg-type]


SHAPES = {"gemma2": gemma2, "gemma3": gemma3, "qwen3moe": qwen3moe}
"""Architectures that need more than `RandomModel`'s defaults."""
NORMED_HEADS = ("gemma3", "qwen3", "qwen3moe")
POST_NORMS = ("gemma2", "gemma3")


def shape_of(architecture: str, **overrides: object) -> RandomModel:
    """The usual shape of an architecture's random model, with changes."""
    if architecture in SHAPES:
        return SHAPES[architecture](**overrides)
    return RandomModel(architecture=architecture, **overrides)  # type: ignore[arg-type]


def write_random_model(path: Path, shape: RandomModel) -> Path:
    """Write the model; the same shape gives the same bytes."""
    metadata = _metadata(shape)
    tensors = list(_tensors(shape))
    rng = np.random.default_rng(shape.seed)
    with atomic_file(path) as out:
        data = ([_weights(rng, spec)] for spec in tensors)
        for chunk in gguf_writer.stream(metadata, tensors, data):
            out.write(chunk)
    return path


def _per_layer(value: int | tuple[int, ...], n_layers: int) -> tuple[int, ...]:
    return (value,) * n_layers if isinstance(value, int) else value


def _count(value: int | tuple[int, ...]) -> MetaValue:
    if isinstance(value, int):
        return MetaValue.of(ValueType.UINT32, value)
    return MetaValue.array(ValueType.UINT32, value)


def vocabulary() -> dict[str, MetaValue]:
    """A small vocabulary: control tokens, all bytes, some words."""
    tokens = ["<unk>", "<s>", "</s>"]
    tokens += [f"<0x{byte:02X}>" for byte in range(BYTE_TOKENS)]
    kinds = [2, 3, 3] + [6] * BYTE_TOKENS + [1] * len(WORDS)
    tokens += WORDS
    scores = [0.0] * (3 + BYTE_TOKENS) + [-float(i) for i in range(len(WORDS))]
    return {
        "tokenizer.ggml.model": MetaValue.of(ValueType.STRING, "llama"),
        "tokenizer.ggml.pre": MetaValue.of(ValueType.STRING, "default"),
        "tokenizer.ggml.tokens": MetaValue.array(ValueType.STRING, tokens),
        "tokenizer.ggml.scores": MetaValue.array(ValueType.FLOAT32, scores),
        "tokenizer.ggml.token_type": MetaValue.array(ValueType.INT32, kinds),
        "tokenizer.ggml.bos_token_id": MetaValue.of(ValueType.UINT32, 1),
        "tokenizer.ggml.eos_token_id": MetaValue.of(ValueType.UINT32, 2),
        "tokenizer.ggml.unknown_token_id": MetaValue.of(ValueType.UINT32, 0),
        "tokenizer.chat_template": MetaValue.of(ValueType.STRING, CHAT_TEMPLATE),
    }


N_VOCAB = 3 + BYTE_TOKENS + len(WORDS)


def _metadata(shape: RandomModel) -> dict[str, MetaValue]:
    arch = shape.architecture
    u32 = {
        "context_length": shape.context,
        "embedding_length": shape.n_embd,
        "block_count": shape.n_layers,
        "attention.head_count": shape.n_head,
        "attention.key_length": shape.head_width,
        "attention.value_length": shape.head_width,
        "rope.dimension_count": shape.head_width,
        "vocab_size": N_VOCAB,
    }
    out = {
        "general.architecture": MetaValue.of(ValueType.STRING, arch),
        "general.name": MetaValue.of(ValueType.STRING, f"random {arch}"),
        "general.file_type": MetaValue.of(ValueType.UINT32, 0),
    }
    out |= {f"{arch}.{key}": MetaValue.of(ValueType.UINT32, value) for key, value in u32.items()}
    out[f"{arch}.feed_forward_length"] = _count(shape.n_ff)
    out[f"{arch}.attention.head_count_kv"] = _count(shape.n_head_kv)
    out[f"{arch}.attention.layer_norm_rms_epsilon"] = MetaValue.of(ValueType.FLOAT32, 1e-6)
    out[f"{arch}.rope.freq_base"] = MetaValue.of(ValueType.FLOAT32, 1e6)
    if shape.window:
        out[f"{arch}.attention.sliding_window"] = MetaValue.of(ValueType.UINT32, shape.window)
    pattern = shape.window_pattern
    key = f"{arch}.attention.sliding_window_pattern"
    if isinstance(pattern, int):
        out[key] = MetaValue.of(ValueType.UINT32, pattern)
    elif pattern is not None:
        out[key] = MetaValue.array(ValueType.BOOL, pattern)
    if shape.n_expert:
        out[f"{arch}.expert_count"] = MetaValue.of(ValueType.UINT32, shape.n_expert)
        out[f"{arch}.expert_used_count"] = _count(shape.n_expert_used)
        out[f"{arch}.expert_feed_forward_length"] = _count(shape.n_ff)
    out |= {f"{arch}.{name}": _value(value) for name, value in shape.keys}
    return out | vocabulary()


def _value(value: int | float | str) -> MetaValue:
    if isinstance(value, str):
        return MetaValue.of(ValueType.STRING, value)
    kind = ValueType.UINT32 if isinstance(value, int) else ValueType.FLOAT32
    return MetaValue.of(kind, value)


def _tensors(shape: RandomModel) -> Iterator[TensorSpec]:
    def tensor(name: str, *dims: int) -> TensorSpec:
        return TensorSpec(f"{name}.weight", dims, TensorType.F32)

    n_embd, width = shape.n_embd, shape.head_width
    yield tensor("token_embd", n_embd, N_VOCAB)
    if shape.rope_freqs:
        yield tensor("rope_freqs", width // 2)
    kv_heads = _per_layer(shape.n_head_kv, shape.n_layers)
    for layer, n_ff in enumerate(_per_layer(shape.n_ff, shape.n_layers)):
        block = f"blk.{layer}"
        yield tensor(f"{block}.attn_norm", n_embd)
        yield tensor(f"{block}.attn_q", n_embd, width * shape.n_head)
        yield tensor(f"{block}.attn_k", n_embd, width * kv_heads[layer])
        yield tensor(f"{block}.attn_v", n_embd, width * kv_heads[layer])
        yield tensor(f"{block}.attn_output", width * shape.n_head, n_embd)
        if shape.architecture == "qwen2":
            yield TensorSpec(f"{block}.attn_q.bias", (width * shape.n_head,), TensorType.F32)
            yield TensorSpec(f"{block}.attn_k.bias", (width * kv_heads[layer],), TensorType.F32)
            yield TensorSpec(f"{block}.attn_v.bias", (width * kv_heads[layer],), TensorType.F32)
        if shape.architecture in NORMED_HEADS:
            yield tensor(f"{block}.attn_q_norm", width)
            yield tensor(f"{block}.attn_k_norm", width)
        if shape.architecture in POST_NORMS:
            yield tensor(f"{block}.post_attention_norm", n_embd)
            yield tensor(f"{block}.post_ffw_norm", n_embd)
        yield tensor(f"{block}.ffn_norm", n_embd)
        many = "_exps" if shape.n_expert else ""
        experts = (shape.n_expert,) if shape.n_expert else ()
        if shape.n_expert:
            yield tensor(f"{block}.ffn_gate_inp", n_embd, shape.n_expert)
        yield tensor(f"{block}.ffn_gate{many}", n_embd, n_ff, *experts)
        yield tensor(f"{block}.ffn_up{many}", n_embd, n_ff, *experts)
        yield tensor(f"{block}.ffn_down{many}", n_ff, n_embd, *experts)
    yield tensor("output_norm", n_embd)
    if not shape.tied:
        yield tensor("output", n_embd, N_VOCAB)
    if shape.output_bias:
        yield TensorSpec("output.bias", (N_VOCAB,), TensorType.F32)


def _weights(rng: np.random.Generator, spec: TensorSpec) -> bytes:
    """Norms and rope factors near 1, matrices scaled to keep the size of what they get."""
    shape = spec.dims[::-1]
    if len(spec.dims) == 1:
        values = rng.uniform(0.75, 1.25, shape)
    else:
        values = rng.standard_normal(shape) * (1.5 / np.sqrt(spec.dims[0]))
    return values.astype("<f4").tobytes()
