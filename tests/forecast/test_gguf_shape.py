"""Shapes from real files: the demo model's, and small random ones."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from tests.conftest import MakeModel

from atoll.domain.errors import BadRequest
from atoll.forecast.gguf_shape import bits_of_gguf, shape_of_gguf
from atoll.forecast.models import shipped_models
from atoll.model.gguf import open_gguf
from atoll.model.gguf_types import MetaValue, ValueType


def test_the_demo_model(demo_model: Path) -> None:
    file = open_gguf(demo_model)
    shape = shape_of_gguf(file, name="demo")
    carried = shipped_models().shapes.find("SmolLM2-135M")
    assert shape.layers == carried.layers == 30
    assert shape.kv_values == carried.kv_values
    assert shape.counted_params == pytest.approx(carried.counted_params, rel=1e-3)
    assert shape.params == pytest.approx(shape.counted_params, rel=1e-3)
    assert 4.5 < bits_of_gguf(file) < 9


@pytest.mark.parametrize("architecture", ["llama", "qwen3moe", "gemma3"])
def test_random_models(architecture: str, random_model: MakeModel) -> None:
    shape = shape_of_gguf(open_gguf(random_model(architecture, n_layers=6)), name="mine")
    assert shape.layers == 6
    assert bool(shape.experts) == (architecture == "qwen3moe")
    assert bool(shape.window) == (architecture == "gemma3")
    assert shape.counted_params == pytest.approx(shape.params, rel=0.1)


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("general.architecture", "does not say its architecture"),
        ("llama.block_count", "has no llama.block_count"),
        ("llama.attention.head_count", "has no llama.attention.head_count"),
    ],
)
def test_what_is_missing(key: str, problem: str, random_model: MakeModel) -> None:
    file = open_gguf(random_model("llama", n_layers=6))
    left = {name: value for name, value in file.metadata.items() if name != key}
    with pytest.raises(BadRequest, match=problem):
        shape_of_gguf(dataclasses.replace(file, metadata=left), name="mine")


def test_a_number_that_is_none(random_model: MakeModel) -> None:
    file = open_gguf(random_model("llama", n_layers=6))
    odd = {"llama.block_count": MetaValue.of(ValueType.STRING, "six")}
    with pytest.raises(BadRequest, match="that is no number"):
        shape_of_gguf(dataclasses.replace(file, metadata={**file.metadata, **odd}), name="mine")


def test_a_part_is_no_model(random_model: MakeModel) -> None:
    file = open_gguf(random_model("llama", n_layers=6))
    rest = tuple(tensor for tensor in file.tensors if tensor.name != "token_embd.weight")
    with pytest.raises(BadRequest, match="no embedding"):
        shape_of_gguf(dataclasses.replace(file, tensors=rest), name="mine")
