"""Weights of a decoder's GGUF file as f32, whatever they are packed as.

Covered are decoders of llama's kind and nothing beside it: root mean square norms, rotated
queries and keys, a gated block with SiLU. All that a file says of its graph has to be known
here; what is not is refused, as a model with a term left out answers nonsense fluently.

Sources: llama.cpp's graphs (src/models/llama.cpp, exaone.cpp, internlm2.cpp) and its
`llama_model_rope_type`; keys and names of tensors: github.com/ggml-org/ggml, docs/gguf.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from gguf.constants import GGMLQuantizationType
from gguf.quants import dequantize
from numpy.typing import NDArray

from atoll.domain.errors import BadModel, BadRequest
from atoll.forecast.gguf_shape import shape_of_gguf
from atoll.forecast.shapes import ModelShape
from atoll.lpu.laying import HeadWeights, LayerWeights, Rotation
from atoll.model.architectures import EMBEDDING, OUTPUT, OUTPUT_NORM
from atoll.model.gguf_types import PULL_AGAIN, GgufFile, TensorInfo, ValueType
from atoll.model.parts import open_bytes, open_model, stem_of

Values = NDArray[np.float32]

ROTATES_HALVES: Mapping[str, bool] = MappingProxyType(
    {"llama": False, "internlm2": False, "exaone": True}
)
"""Architectures that are covered, and whether the two halves of a head are turned with each
other, or else neighbours.
"""
ROPE_BASE = 10_000.0
"""What the engine takes where a file says nothing (llama-model.cpp, `rope_freq_base_train`)."""
KNOWN_KEYS = frozenset(
    {
        *("vocab_size", "context_length", "embedding_length", "block_count"),
        *("feed_forward_length", "attention.head_count", "attention.head_count_kv"),
        *("attention.key_length", "attention.value_length", "attention.layer_norm_rms_epsilon"),
        *("rope.dimension_count", "rope.freq_base", "tensor_data_layout"),
        *("rope.scaling.type", "rope.scaling.original_context_length", "rope.scaling.finetuned"),
    }
)
"""Of an architecture: what is read here, or changes nothing where nothing is scaled."""
WITHOUT_EFFECT = (0, 0.0, False, "none")
"""Any other key may be there with one of these values: the engine takes it as not there."""
COVERED = f"covered are decoders like llama without further terms: {', '.join(ROTATES_HALVES)}"


@dataclass(frozen=True, slots=True)
class DecoderFacts:
    """What a decoder is beside its weights; `half` as in `ROTATES_HALVES`."""

    shape: ModelShape
    rotation: Rotation
    half: bool
    eps: float


class FloatWeights:
    """The weights of a model's file; one layer's are kept at a time.

    Args:
        path: The file, or the first of its parts.
        name: What to call the model; empty: as the file.
    """

    def __init__(self, path: Path, name: str = "") -> None:
        """Read the head, and check that all is covered.

        Raises:
            BadModel: It is no sound GGUF file.
            BadRequest: It has what is not covered; says what.
        """
        self._path, self._file = path, open_model(path)
        self.facts = read_facts(self._file, name=name or stem_of(path.name))
        self._tensors = {tensor.name: tensor for tensor in self._file.tensors}
        _check_tensors(self._tensors, self.facts.shape)
        self._kept: tuple[int, LayerWeights] | None = None

    def layer(self, number: int) -> LayerWeights:
        """A layer's weights."""
        if self._kept is None or self._kept[0] != number:
            self._kept = None
            values = {
                field: self._values(f"blk.{number}.{name}.weight")
                for name, field in _FIELDS.items()
            }
            self._kept = (number, LayerWeights(**values))
        return self._kept[1]

    def head(self) -> HeadWeights:
        """The last norm, and the head; a tied one is the embedding."""
        name = EMBEDDING if self.facts.shape.tied else OUTPUT
        return HeadWeights(self._values(OUTPUT_NORM), self._values(name))

    def embedding(self, token: int) -> Values:
        """The hidden vector that a token comes in with, shape (hidden,).

        Raises:
            ValueError: The id is outside the vocabulary.
        """
        vocab = self.facts.shape.vocab
        if not 0 <= token < vocab:
            raise ValueError(f"token id {token} is outside the vocabulary of {vocab}")
        vector: Values = self._values(EMBEDDING, token, 1)[0]
        return vector

    def forget(self) -> None:
        """Keep no layer."""
        self._kept = None

    def _values(self, name: str, first: int = 0, count: int | None = None) -> Values:
        """A tensor, or some of its rows."""
        tensor = self._tensors[name]
        rows = tensor.dims[1] if len(tensor.dims) > 1 else 1
        row_bytes = tensor.size_bytes // rows
        wanted = rows if count is None else count
        with open_bytes(self._path, self._file) as file:
            file.seek(tensor.offset + first * row_bytes)
            data = file.read(wanted * row_bytes)
        if len(data) != wanted * row_bytes:
            raise BadModel(f"the model file ends inside tensor {name!r}", hint=PULL_AGAIN)
        packed = np.frombuffer(data, np.uint8).reshape(wanted, row_bytes)
        values = unpack(packed, tensor)
        if len(tensor.dims) > 1:
            return values
        vector: Values = values[0]
        return vector


def unpack(packed: NDArray[np.uint8], tensor: TensorInfo) -> Values:
    """Rows of a tensor's bytes as numbers.

    Raises:
        BadRequest: Nothing here reads its type.
    """
    try:
        # Scales of a bad file may be no numbers; whoever samples from what comes of it says so.
        with np.errstate(all="ignore"):
            values: Values = dequantize(packed, GGMLQuantizationType(int(tensor.type)))
    except (NotImplementedError, ValueError):
        raise BadRequest(
            f"tensor {tensor.name!r} is of type {tensor.type.name}, which is not unpacked here",
            hint="take the model in another quantisation",
        ) from None
    return values.astype(np.float32, copy=False)


_FIELDS = {
    "attn_norm": "attention_norm",
    "attn_q": "query",
    "attn_k": "key",
    "attn_v": "value",
    "attn_output": "output",
    "ffn_norm": "feed_forward_norm",
    "ffn_gate": "gate",
    "ffn_up": "up",
    "ffn_down": "down",
}
"""Names of a layer's tensors."""


def read_facts(file: GgufFile, *, name: str) -> DecoderFacts:
    """What a file's metadata says of a decoder.

    Raises:
        BadRequest: It says what is not covered.
    """
    architecture = file.architecture
    if architecture not in ROTATES_HALVES:
        raise BadRequest(f"{name} is of the architecture {architecture!r}", hint=COVERED)
    prefix = f"{architecture}."
    for key in sorted(key for key in file.metadata if key.startswith(prefix)):
        value = file.metadata[key]
        if key.removeprefix(prefix) in KNOWN_KEYS:
            continue
        if value.type is ValueType.ARRAY or value.scalar() not in WITHOUT_EFFECT:
            raise BadRequest(f"{name} has {key}, which is not covered", hint=COVERED)
    scaling = file.metadata.get(f"{prefix}rope.scaling.type")
    if scaling is not None and scaling.scalar() != "none":
        raise BadRequest(f"{name} scales its rotation ({scaling.scalar()})", hint=COVERED)
    shape = shape_of_gguf(file, name=name)
    dims = int(_number(file, f"{prefix}rope.dimension_count", shape.head_dim))
    if not 2 <= dims <= shape.head_dim or dims % 2:
        raise BadRequest(f"{name} turns {dims} of {shape.head_dim} values of a head", hint=COVERED)
    value_dim = _number(file, f"{prefix}attention.value_length", shape.head_dim)
    if value_dim != shape.head_dim:
        raise BadRequest(f"{name} has keys and values of different lengths", hint=COVERED)
    return DecoderFacts(
        shape,
        Rotation(dims, _number(file, f"{prefix}rope.freq_base", ROPE_BASE)),
        ROTATES_HALVES[architecture],
        _number(file, f"{prefix}attention.layer_norm_rms_epsilon", None),
    )


def _number(file: GgufFile, key: str, missing: float | None) -> float:
    value = file.metadata.get(key)
    if value is None and missing is not None:
        return missing
    found = value.scalar() if value is not None and value.type is not ValueType.ARRAY else None
    if not isinstance(found, int | float) or isinstance(found, bool) or not 0 < found < np.inf:
        raise BadModel(f"the model's file has no {key} that is a number", hint=PULL_AGAIN)
    return float(found)


def _check_tensors(tensors: Mapping[str, TensorInfo], shape: ModelShape) -> None:
    """All that the graph needs is there, as large as it should be, and nothing else.

    Raises:
        BadRequest: There is more than is covered.
        BadModel: There is less.
    """
    wanted = _dims(shape)
    for name, tensor in tensors.items():
        if name not in wanted:
            raise BadRequest(f"{shape.name} has a tensor {name!r}, not covered", hint=COVERED)
        if tensor.dims != wanted[name]:
            raise BadRequest(
                f"{shape.name}: tensor {name!r} has dimensions {tensor.dims}, and not "
                f"{wanted[name]}, as all layers would have alike",
                hint=COVERED,
            )
    for name in wanted:
        if name not in tensors:
            raise BadModel(f"{shape.name} has no tensor {name!r}", hint=PULL_AGAIN)


def _dims(shape: ModelShape) -> dict[str, tuple[int, ...]]:
    """Dimensions of all tensors, the fastest first."""
    hidden, wide = shape.hidden, shape.heads * shape.head_dim
    kv = shape.kv_heads * shape.head_dim
    of_layer = {
        "attn_norm": (hidden,),
        "attn_q": (hidden, wide),
        "attn_k": (hidden, kv),
        "attn_v": (hidden, kv),
        "attn_output": (wide, hidden),
        "ffn_norm": (hidden,),
        "ffn_gate": (hidden, shape.ffn),
        "ffn_up": (hidden, shape.ffn),
        "ffn_down": (shape.ffn, hidden),
    }
    found: dict[str, tuple[int, ...]] = {
        EMBEDDING: (hidden, shape.vocab),
        OUTPUT_NORM: (hidden,),
    }
    if not shape.tied:
        found[OUTPUT] = (hidden, shape.vocab)
    for layer in range(shape.layers):
        found |= {f"blk.{layer}.{name}.weight": dims for name, dims in of_layer.items()}
    return found
