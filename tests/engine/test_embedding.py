"""Embedding rows are what llama.cpp itself looks up, to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
from tests.support.cut_models import Rows, table_of

from atoll.domain.errors import BadModel
from atoll.engine.batch import Span
from atoll.engine.embedding import EmbeddingTable
from atoll.engine.llama import Context, ContextOptions, Model
from atoll.model import gguf_writer
from atoll.model.architectures import embedding_scale
from atoll.model.gguf import open_gguf
from atoll.model.gguf_types import TensorType
from atoll.model.gguf_writer import TensorSpec

pytestmark = pytest.mark.engine

OPTIONS = ContextOptions(
    n_slots=1, context=64, rows_max=16, threads=1, threads_large=1, outputs_max=16
)
KINDS = ("F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_1")


def with_table_of(model: Path, kind: str, path: Path) -> Path:
    """The same model with its embedding in another type."""
    file = open_gguf(model)
    data = model.read_bytes()
    specs, contents = [], []
    for tensor in file.tensors:
        content = data[tensor.offset : tensor.offset + tensor.size_bytes]
        type_ = tensor.type
        if tensor.name == "token_embd.weight":
            type_ = TensorType[kind]
            values = np.frombuffer(content, "<f4").reshape(tensor.dims[::-1])
            content = gguf.quantize(values, gguf.GGMLQuantizationType[kind]).tobytes()
        specs.append(TensorSpec(tensor.name, tensor.dims, type_))
        contents.append([content])
    path.write_bytes(b"".join(gguf_writer.stream(file.metadata, specs, contents)))
    return path


def assert_same_as_the_engine(path: Path, tokens: list[int]) -> None:
    """The whole model fed with our rows gives the bits it gives fed with tokens."""
    table, n = table_of(path), len(tokens)
    model = Model(path)
    by_token = Context(model, OPTIONS, tap=False)
    by_row = Context(model, OPTIONS, tap=False)
    wanted = list(range(n))
    ids = np.array(tokens, np.int32)
    expected = by_token.logits_of_tokens([Span(0, 0, n)], ids, wanted, exact=False)
    table.rows_into(by_row.inputs(n), tokens)
    found = by_row.logits([Span(0, 0, n)], wanted)
    for row, right in zip(found, expected, strict=True):
        assert right.std() > 0.1
        assert np.array_equal(row, right), f"off by {abs(row - right).max()}"
    for closed in (by_token, by_row, model):
        closed.close()


def test_the_demo_models_table(demo_model: Path) -> None:
    assert_same_as_the_engine(demo_model, [1, 4093, 17, 49_151, 0, 2, 30_000])


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_tables_of_floats(random_model: Callable[..., Path], architecture: str) -> None:
    assert_same_as_the_engine(random_model(architecture), [3, 200, 7, 7, 0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_quantised_tables(
    random_model: Callable[..., Path], tmp_path: Path, architecture: str, kind: str
) -> None:
    path = with_table_of(random_model(architecture), kind, tmp_path / "model.gguf")
    assert open_gguf(path).tensor("token_embd.weight").type is TensorType[kind]
    assert_same_as_the_engine(path, [3, 200, 7, 7, 0])


def test_gemma_scales_its_rows(random_model: Callable[..., Path]) -> None:
    path = random_model("gemma3")
    file = open_gguf(path)
    assert embedding_scale(file) == 8.0
    plain = EmbeddingTable(path, file.tensor("token_embd.weight"), scale=1.0)
    scaled, unscaled = np.empty((2, 64), np.float32), np.empty((2, 64), np.float32)
    plain.rows_into(unscaled, [5, 6])
    table_of(path).rows_into(scaled, [5, 6])
    assert np.array_equal(scaled, unscaled * np.float32(8))


@pytest.mark.parametrize("bad", [-1, 10**6, 2**31, None])
def test_tokens_outside_the_vocabulary_are_refused(
    random_model: Callable[..., Path], bad: int | None
) -> None:
    table = table_of(random_model("llama"))
    token = table.n_vocab if bad is None else bad
    out: Rows = np.zeros((2, table.n_embd), np.float32)
    with pytest.raises(ValueError, match=f"token id {token} is outside the vocabulary"):
        table.rows_into(out, [3, token])


def test_the_last_token_is_inside(random_model: Callable[..., Path]) -> None:
    table = table_of(random_model("llama"))
    out = np.zeros((1, table.n_embd), np.float32)
    table.rows_into(out, [table.n_vocab - 1])
    assert out.any()


@pytest.mark.parametrize("kind", [TensorType.F64, TensorType.I32, TensorType.Q8_K])
def test_numbers_that_the_engine_cannot_convert_are_refused(
    random_model: Callable[..., Path], kind: TensorType
) -> None:
    path = random_model("llama")
    tensor = replace(open_gguf(path).tensor("token_embd.weight"), type=kind)
    with pytest.raises(BadModel, match=kind.name) as caught:
        EmbeddingTable(path, tensor, scale=1.0)
    assert caught.value.hint
