"""Weights as f32: what the engine makes of the same bytes, and of the same graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.conftest import MakeModel
from tests.support.reference_decoder import ReferenceDecoder

from atoll.domain.errors import BadModel, BadRequest
from atoll.engine.batch import Span
from atoll.engine.embedding import EmbeddingTable
from atoll.engine.float_weights import ROTATES_HALVES, FloatWeights, unpack
from atoll.engine.library import load_library
from atoll.engine.llama import Context, ContextOptions, Model
from atoll.model.gguf import open_gguf
from atoll.model.gguf_types import BLOCK_OF, TensorInfo, TensorType

pytestmark = pytest.mark.engine

NOT_WEIGHTS = {"I8", "I16", "I32", "I64", "F64", "Q8_1", "Q8_K"}
"""Types that no weights are stored as, or that the engine uses inside a computation only."""
NOT_UNPACKED = {"Q1_0", "Q2_0"}
"""Types that are newer than the package that unpacks."""
KINDS = [t for t in TensorType if t.name not in NOT_WEIGHTS | NOT_UNPACKED]


def test_facts_of_the_demo_model(demo_model: Path) -> None:
    facts = FloatWeights(demo_model, "smollm2").facts
    shape = facts.shape
    assert (shape.name, shape.layers, shape.hidden, shape.tied) == ("smollm2", 30, 576, True)
    assert (facts.rotation.dims, facts.rotation.base, facts.half) == (64, 100_000.0, False)
    assert facts.eps == pytest.approx(1e-5)


def test_rows_of_the_embedding_are_the_engine_s(demo_model: Path) -> None:
    weights = FloatWeights(demo_model)
    table = EmbeddingTable(demo_model, open_gguf(demo_model).tensor("token_embd.weight"), scale=1.0)
    tokens = [0, 17, 4093, 49_151]
    rows = np.empty((len(tokens), 576), np.float32)
    table.rows_into(rows, tokens)
    whole = weights.head().head
    for token, row in zip(tokens, rows, strict=True):
        assert np.array_equal(weights.embedding(token), row)
        assert np.array_equal(whole[token], row)
    for bad in (-1, 49_152):
        with pytest.raises(ValueError, match="outside the vocabulary"):
            weights.embedding(bad)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_type_is_unpacked_as_the_engine_does(kind: TensorType) -> None:
    block, size = BLOCK_OF[kind]
    rows, columns = 8, max(block, 64)
    rng = np.random.default_rng(3)
    if size >= 2 * block and kind.name != "F32":  # halves as they come are no numbers
        packed = rng.standard_normal((rows, columns)).astype("<f4")
        data = (packed.view("<u4") >> 16).astype("<u2").view(np.uint8)
        if kind.name == "F16":
            data = packed.astype("<f2").view(np.uint8)
    elif kind.name == "F32":
        data = rng.standard_normal((rows, columns)).astype("<f4").view(np.uint8)
    else:
        data = rng.integers(0, 256, (rows, columns // block * size)).astype(np.uint8)
    found = unpack(data, TensorInfo("made", (columns, rows), kind, 0, data.size))
    assert found.dtype == np.float32
    assert found.shape == (rows, columns)
    library = load_library()
    expected = np.empty((rows, columns), np.float32)
    if kind.name == "F32":
        expected = data.view("<f4").reshape(rows, columns)
    else:
        library.lib.ggml_get_type_traits(int(kind)).to_float(
            library.ffi.from_buffer("uint8_t[]", np.ascontiguousarray(data)),
            library.ffi.from_buffer("float[]", expected),
            expected.size,
        )
    # Some random scales are no numbers.
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert np.isfinite(found).mean() > 0.5


@pytest.mark.parametrize("kind", sorted(NOT_UNPACKED | {"I32", "Q8_K"}))
def test_other_types_are_refused(kind: str) -> None:
    block, size = BLOCK_OF[TensorType[kind]]
    data = np.zeros((1, size), np.uint8)
    with pytest.raises(BadRequest, match=f"of type {kind}"):
        unpack(data, TensorInfo("made", (block, 1), TensorType[kind], 0, size))


@pytest.mark.parametrize(
    ("architecture", "tied"),
    # The engine knows no internlm2 without a head of its own.
    [
        (name, tied)
        for name in sorted(ROTATES_HALVES)
        for tied in (True, False)
        if not (tied and name == "internlm2")
    ],
)
def test_the_graph_is_the_engine_s(random_model: MakeModel, architecture: str, tied: bool) -> None:
    """A decoder without any further term gives the engine's logits."""
    path = random_model(architecture, n_layers=3, tied=tied)
    tokens = [1, 40, 260, 7, 133, 40]
    model = Model(path)
    options = ContextOptions(
        n_slots=1, context=64, rows_max=16, threads=1, threads_large=1, outputs_max=16
    )
    context = Context(model, options, tap=False)
    wanted = list(range(len(tokens)))
    expected = context.logits_of_tokens(
        [Span(0, 0, len(tokens))], np.array(tokens, np.int32), wanted, exact=True
    )
    weights = FloatWeights(path)
    facts = weights.facts
    assert facts.shape.tied == tied
    layers = [weights.layer(n) for n in range(facts.shape.layers)]
    decoder = ReferenceDecoder(
        facts.shape, layers, weights.head(), facts.rotation, facts.eps, facts.half
    )
    for token, row in zip(tokens, expected, strict=True):
        found = decoder.token(weights.embedding(token))
        # The engine keeps keys and values as halves.
        assert np.abs(found - row).max() < 0.01 * row.std()
    context.close()
    model.close()


@pytest.mark.parametrize(
    ("made", "problem"),
    [
        ({"architecture": "qwen2"}, "is of the architecture 'qwen2'"),
        ({"architecture": "gemma3"}, "is of the architecture 'gemma3'"),
        ({"n_expert": 4}, "has llama.expert_count, which is not covered"),
        ({"rope_freqs": True}, "has a tensor 'rope_freqs.weight', not covered"),
        ({"output_bias": True, "tied": False}, "has a tensor 'output.bias', not covered"),
        ({"window": 32}, "has llama.attention.sliding_window"),
        ({"n_head_kv": (2, 2, 2, 4, 4, 4)}, "as all layers would have alike"),
        ({"keys": (("rope.scaling.type", "yarn"),)}, r"scales its rotation \(yarn\)"),
        ({"keys": (("rope.scaling.factor", 4.0),)}, "has llama.rope.scaling.factor"),
        ({"keys": (("attention.scale", 0.5),)}, "has llama.attention.scale"),
        ({"keys": (("rope.dimension_count", 18),)}, "turns 18 of 16 values"),
    ],
)
def test_what_is_not_covered_is_refused(
    random_model: MakeModel, made: dict[str, object], problem: str
) -> None:
    with pytest.raises(BadRequest, match=problem) as found:
        FloatWeights(random_model(**made))  # type: ignore[arg-type]
    assert "llama" in found.value.hint


def test_keys_without_effect_are_no_obstacle(random_model: MakeModel) -> None:
    keys = (("rope.scaling.type", "none"), ("expert_count", 0), ("attention.scale", 0.0))
    assert FloatWeights(random_model(keys=keys)).facts.shape.layers == 6


def test_no_gguf_file(tmp_path: Path) -> None:
    path = tmp_path / "other.gguf"
    path.write_bytes(b"PK\x03\x04 and so on" * 10)
    with pytest.raises(BadModel, match="not a GGUF file"):
        FloatWeights(path)
