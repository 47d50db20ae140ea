"""Model files that hold a small vocabulary and nothing else, made on the spot."""

from __future__ import annotations

from pathlib import Path

from atoll.model.gguf import open_gguf
from atoll.model.gguf_types import MetaValue, ValueType
from atoll.model.gguf_writer import header

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6
"""`tokenizer.ggml.token_type`."""


def text_value(text: str) -> MetaValue:
    return MetaValue.of(ValueType.STRING, text)


def number(value: int) -> MetaValue:
    return MetaValue.of(ValueType.UINT32, value)


def with_template(model: Path, template: str | None, target: Path) -> Path:
    """The vocabulary of `model` with another chat template (None: with none)."""
    metadata = dict(open_gguf(model).metadata)
    metadata.pop("tokenizer.chat_template", None)
    if template is not None:
        metadata["tokenizer.chat_template"] = text_value(template)
    target.write_bytes(header(metadata, []))
    return target


def sentencepiece_model(
    target: Path,
    markers: dict[str, int],
    *,
    name: str = "small",
    template: str = "",
    adds_space: bool = True,
) -> Path:
    """A SentencePiece vocabulary: bytes, letters, a few words, and `markers` with their types."""
    tokens: list[tuple[str, float, int]] = [
        ("<unk>", 0.0, UNKNOWN),
        ("<s>", 0.0, CONTROL),
        ("</s>", 0.0, CONTROL),
    ]
    tokens += [(f"<0x{i:02X}>", 0.0, BYTE) for i in range(256)]
    tokens += [(text, 0.0, kind) for text, kind in markers.items()]
    tokens += [("▁" + w, -1.0, NORMAL) for w in ("a", "b", "hello", "")]
    tokens += [(chr(c), -10.0, NORMAL) for c in range(33, 127)]
    metadata = {
        "general.architecture": text_value("llama"),
        "general.name": text_value(name),
        "llama.block_count": number(1),
        "llama.context_length": number(128),
        "llama.embedding_length": number(32),
        "llama.feed_forward_length": number(32),
        "llama.attention.head_count": number(2),
        "llama.attention.layer_norm_rms_epsilon": MetaValue.of(ValueType.FLOAT32, 1e-5),
        "tokenizer.ggml.model": text_value("llama"),
        "tokenizer.ggml.tokens": MetaValue.array(ValueType.STRING, [t for t, _, _ in tokens]),
        "tokenizer.ggml.scores": MetaValue.array(ValueType.FLOAT32, [s for _, s, _ in tokens]),
        "tokenizer.ggml.token_type": MetaValue.array(ValueType.INT32, [k for _, _, k in tokens]),
        "tokenizer.ggml.bos_token_id": number(1),
        "tokenizer.ggml.eos_token_id": number(2),
        "tokenizer.ggml.unknown_token_id": number(0),
        "tokenizer.ggml.add_bos_token": MetaValue.of(ValueType.BOOL, True),
        "tokenizer.ggml.add_space_prefix": MetaValue.of(ValueType.BOOL, adds_space),
        "tokenizer.chat_template": text_value(template),
    }
    target.write_bytes(header(metadata, []))
    return target
