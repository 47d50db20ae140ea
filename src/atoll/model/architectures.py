"""The architecture table: which models may be cut, where, and what a cut must change.

It is data: one row for each architecture, read by `shard` and `manifest`. A
row says what the engine derives from a layer's index or from the number of
layers, because both change when layers are cut out and renumbered. Source of
each row: src/models/<name>.cpp of the engine's build. A model that has
anything a row does not know is refused and must be served whole.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from atoll.domain.errors import BadModel, CannotCut
from atoll.model.gguf_types import PULL_AGAIN, GgufFile, ValueType

LAYERS_MAX = 512
"""The engine aborts above this (llama-hparams.h, LLAMA_MAX_LAYERS)."""
BOUNDLESS_WINDOW = 1 << 30
"""A sliding window that masks nothing: no context has as many positions."""
SERVE_WHOLE = "it can be served whole only, on one machine"
_BLOCK = re.compile(r"blk\.(0|[1-9][0-9]{0,8})\.(.+)")


@dataclass(frozen=True, slots=True)
class WindowPattern:
    """Which layers attend to a sliding window only.

    The engine reads `pattern_key` as an array of one bool for each layer, or
    else takes every `default_period`-th layer as the one without a window, by
    the layer's index. Cut layers have other indices, so a shard always carries
    the array. `window_key` is the window's size, `default_size` if absent; 0
    means that no layer has one. An engine that sets `always` up windows, whatever
    the size, has no way to say that: a shard without any windowed layer then
    gets `BOUNDLESS_WINDOW`.
    """

    window_key: str
    pattern_key: str
    default_period: int
    default_size: int = 0
    always: bool = False


@dataclass(frozen=True, slots=True)
class Architecture:
    """One row of the table. Keys are without the architecture's name in front.

    Attributes:
        name: `general.architecture`.
        cut_every: Layers may be cut at multiples of this.
        per_layer: Keys that may hold an array with one element for each layer.
        other_arrays: Keys of arrays that have nothing to do with layers.
        first_layer_rules: Keys whose value for the first layer the engine applies to
            all: an array of them must hold the same value for each layer.
        must_be_zero: Keys that make a model uncuttable unless absent or 0, and why.
        must_be_absent: Keys that make a model uncuttable if they are there, and why.
        window: Its sliding-window pattern, if it has one.
        fixed_counts: Numbers of layers from which the engine derives something
            else, and what: a model or a shard of that many layers cannot be cut.
        scaled_embedding: Token embeddings are multiplied by sqrt(n_embd).
        scaled_input: Name of the tensor that the graph makes of hidden states that
            are fed to it, where it multiplies those as well: they must be put back.
        every_shard: Tensors outside the layers that every shard carries if it can.
        last_shard: Tensors outside the layers that only the last shard needs.
        boundary: Name of the tensor that leaves layer {layer} of a graph.
    """

    name: str
    cut_every: int = 1
    per_layer: frozenset[str] = frozenset()
    other_arrays: frozenset[str] = frozenset()
    first_layer_rules: frozenset[str] = frozenset()
    must_be_zero: Mapping[str, str] = field(default_factory=dict)
    must_be_absent: Mapping[str, str] = field(default_factory=dict)
    window: WindowPattern | None = None
    fixed_counts: Mapping[int, str] = field(default_factory=dict)
    scaled_embedding: bool = False
    scaled_input: str = ""
    every_shard: frozenset[str] = frozenset()
    last_shard: frozenset[str] = frozenset()
    boundary: str = "l_out-{layer}"


EMBEDDING = "token_embd.weight"
OUTPUT_NORM = "output_norm.weight"
OUTPUT = "output.weight"

_PER_LAYER = frozenset(
    {
        "attention.head_count",
        "attention.head_count_kv",
        "feed_forward_length",
        "expert_used_count",
    }
)
_NEXT_TOKEN_LAYERS = {"nextn_predict_layers": "its last layers predict several tokens at once"}

_EXPERTS_USED = frozenset({"expert_used_count"})
"""llama-graph.cpp takes `n_expert_used()` of layer 0 for the choice of experts in all."""
_ROPE_FACTORS = frozenset(
    {"rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"}
)
_HEAD = frozenset({OUTPUT, "output.scale"})
_WINDOW = WindowPattern(
    window_key="attention.sliding_window",
    pattern_key="attention.sliding_window_pattern",
    default_period=6,
)
_OWN_WINDOWED_SETTINGS = "its layers with a window have settings of their own"

_ROWS = (
    # In llama, mistral3 and the qwens only a label for people depends on the number of
    # layers. Mistral models are llama models with a width of heads of their own; the
    # engine reads no sliding window there. In mistral3 attention is scaled by position.
    Architecture(
        name="llama",
        per_layer=_PER_LAYER,
        other_arrays=frozenset({"rope.dimension_sections"}),
        first_layer_rules=_EXPERTS_USED,
        must_be_zero=_NEXT_TOKEN_LAYERS,
        every_shard=_ROPE_FACTORS,
        last_shard=_HEAD,
    ),
    Architecture(
        name="mistral3",
        per_layer=_PER_LAYER,
        first_layer_rules=_EXPERTS_USED,
        must_be_zero=_NEXT_TOKEN_LAYERS,
        every_shard=_ROPE_FACTORS,
        last_shard=_HEAD,
    ),
    Architecture(
        name="qwen2",
        per_layer=_PER_LAYER,
        must_be_zero=_NEXT_TOKEN_LAYERS,
        last_shard=_HEAD | {"output.bias"},
    ),
    Architecture(
        name="qwen3",
        per_layer=_PER_LAYER,
        must_be_zero=_NEXT_TOKEN_LAYERS,
        last_shard=_HEAD,
    ),
    Architecture(
        name="qwen3moe",
        per_layer=_PER_LAYER | {"expert_feed_forward_length"},
        first_layer_rules=_EXPERTS_USED | {"expert_feed_forward_length"},
        must_be_zero=_NEXT_TOKEN_LAYERS,
        last_shard=_HEAD,
    ),
    # 46 layers mean the 27B model, whose attention is scaled by its width instead of
    # its heads' width; no metadata can say so. The graph scales whatever enters it, and
    # there is no head of its own. Windows are always on.
    Architecture(
        name="gemma2",
        per_layer=_PER_LAYER,
        must_be_zero=_NEXT_TOKEN_LAYERS,
        must_be_absent={
            "rope.freq_base_swa": _OWN_WINDOWED_SETTINGS,
            "rope.dimension_count_swa": _OWN_WINDOWED_SETTINGS,
            "attention.key_length_swa": _OWN_WINDOWED_SETTINGS,
            "attention.value_length_swa": _OWN_WINDOWED_SETTINGS,
        },
        window=replace(_WINDOW, default_period=2, default_size=4096, always=True),
        fixed_counts={46: "how attention is scaled"},
        scaled_embedding=True,
        scaled_input="inp_scaled",
    ),
    # 62 layers mean the 27B model, as 46 do in gemma2.
    Architecture(
        name="gemma3",
        per_layer=_PER_LAYER,
        must_be_zero=_NEXT_TOKEN_LAYERS,
        window=_WINDOW,
        fixed_counts={62: "how attention is scaled"},
        scaled_embedding=True,
        every_shard=frozenset({"rope_freqs.weight"}),
        last_shard=_HEAD,
    ),
)

TABLE: Mapping[str, Architecture] = MappingProxyType({row.name: row for row in _ROWS})


def layer_count(model: GgufFile) -> int:
    """Number of layers of a model.

    Raises:
        BadModel: It does not say, or says something impossible.
    """
    n_layers = model.integer(f"{model.architecture}.block_count")
    if not 1 <= n_layers <= LAYERS_MAX:
        raise BadModel(
            f"the model claims {n_layers} layers; 1 to {LAYERS_MAX} are possible", hint=PULL_AGAIN
        )
    return n_layers


def layer_of(tensor_name: str) -> tuple[int, str] | None:
    """(layer, rest of the name) of a layer's tensor; None for any other."""
    match = _BLOCK.fullmatch(tensor_name)
    return (int(match[1]), match[2]) if match else None


def architecture_of(model: GgufFile) -> Architecture:
    """The table's row for a model, after checking that the row knows all of it.

    Raises:
        CannotCut: Not in the table, or something in the model is beyond its row.
    """
    name = model.architecture
    row = TABLE.get(name)
    if row is None:
        raise CannotCut(
            f"models of the architecture {name!r} cannot be cut yet (only {', '.join(TABLE)})",
            hint=SERVE_WHOLE,
        )
    n_layers = layer_count(model)
    _check_metadata(model, row)
    _check_arrays(model, row, n_layers)
    known = {EMBEDDING, OUTPUT_NORM} | row.every_shard | row.last_shard
    for tensor in model.tensors:
        place = layer_of(tensor.name)
        if (place is None and tensor.name not in known) or (place and place[0] >= n_layers):
            raise CannotCut(
                f"this {name} model holds the tensor {tensor.name!r}, which is not known here",
                hint=SERVE_WHOLE,
            )
    return row


def _check_metadata(model: GgufFile, row: Architecture) -> None:
    if any(key.startswith("atoll.") for key in model.metadata):
        raise CannotCut("this file is a shard already", hint="cut the whole model instead")
    if model.integer("split.count", 0) > 1:
        raise CannotCut(
            "this file is one part of a model that was split into several",
            hint="give the first of its parts, with the others beside it",
        )
    for key, why in row.must_be_zero.items():
        if model.integer(f"{row.name}.{key}", 0):
            raise CannotCut(f"this {row.name} model cannot be cut: {why}", hint=SERVE_WHOLE)
    for key, why in row.must_be_absent.items():
        if f"{row.name}.{key}" in model.metadata:
            raise CannotCut(f"this {row.name} model cannot be cut: {why}", hint=SERVE_WHOLE)
    if row.window and row.window.always and window_size(model, row.window) == 0:
        raise CannotCut(
            f"this {row.name} model has a sliding window of 0, which hides everything",
            hint=PULL_AGAIN,
        )


def _check_arrays(model: GgufFile, row: Architecture, n_layers: int) -> None:
    for key in row.first_layer_rules:
        if len(set(model.per_layer(f"{row.name}.{key}", n_layers, default=0))) > 1:
            raise CannotCut(
                f"{key} of this {row.name} model differs from layer to layer, and the engine "
                "applies the first layer's to all",
                hint=SERVE_WHOLE,
            )
    allowed = row.per_layer | row.other_arrays
    if row.window:
        allowed |= {row.window.pattern_key}
    for key, value in model.metadata.items():
        if not key.startswith(f"{row.name}.") or value.type is not ValueType.ARRAY:
            continue
        if value.count == n_layers and key.removeprefix(f"{row.name}.") not in allowed:
            raise CannotCut(
                f"{key} seems to hold a value for each layer, which is not known here",
                hint=SERVE_WHOLE,
            )


def boundaries(model: GgufFile) -> tuple[int, ...]:
    """Where a model may be cut: layer numbers, with 0 and the number of layers.

    Raises:
        CannotCut: Nowhere.
    """
    row, n_layers = architecture_of(model), layer_count(model)
    check_count(row, n_layers)
    return (*range(0, n_layers, row.cut_every), n_layers)


def check_count(row: Architecture, n_layers: int) -> None:
    """Raise CannotCut if the engine derives something else from `n_layers` layers."""
    if n_layers in row.fixed_counts:
        raise CannotCut(
            f"the engine tells {row.fixed_counts[n_layers]} in {row.name} models from "
            f"there being {n_layers} layers",
            hint=f"for a model of {n_layers} layers, {SERVE_WHOLE}; a shard must have another "
            "number of layers",
        )


def window_size(model: GgufFile, window: WindowPattern) -> int:
    """Positions that a layer with a sliding window sees; 0 if no layer has one."""
    return model.integer(f"{model.architecture}.{window.window_key}", window.default_size)


def windowed_layers(model: GgufFile, row: Architecture) -> list[bool] | None:
    """For each layer whether it attends to a window only; None if no layer does.

    Raises:
        BadModel: The pattern has the wrong type or length.
    """
    window = row.window
    if window is None or window_size(model, window) == 0:
        return None
    n_layers = layer_count(model)
    key = f"{row.name}.{window.pattern_key}"
    value = model.metadata.get(key)
    if value is not None and value.type is ValueType.ARRAY:
        return [bool(item) for item in model.per_layer(key, n_layers)]
    period = model.integer(key, window.default_period)
    return [period == 0 or layer % period < period - 1 for layer in range(n_layers)]


def embedding_scale(model: GgufFile) -> float:
    """What a token's embedding is multiplied by before it enters the first layer.

    Raises:
        CannotCut: The architecture is not in the table.
    """
    if not architecture_of(model).scaled_embedding:
        return 1.0
    return math.sqrt(model.integer(f"{model.architecture}.embedding_length"))
