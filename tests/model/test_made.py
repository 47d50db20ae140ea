"""Models of zeros: always the same, of the size that was asked for, cut like any other."""

from __future__ import annotations

from pathlib import Path

import pytest

from atoll.domain.ids import ModelId
from atoll.forecast.gguf_shape import bits_of_gguf, shape_of_gguf
from atoll.model.gguf_types import TensorType
from atoll.model.made import BARE, MadeShape, plain_shape, write_made
from atoll.model.manifest import describe
from atoll.model.parts import open_model
from atoll.model.shard import write_shard

SMALL_LAYER_BYTES = 2_000_000
"""Of a layer of the smallest model that people run."""


def test_the_same_shape_is_the_same_file(tmp_path: Path) -> None:
    one, two = (write_made(tmp_path / name, BARE) for name in ("one.gguf", "two.gguf"))
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize(
    ("shape", "bits"),
    [
        (BARE, 8.5),
        (plain_shape(TensorType.F16), 16.0),
        (plain_shape(TensorType.Q4_0), 4.5),
    ],
)
def test_layers_are_alike_and_can_be_cut(tmp_path: Path, shape: MadeShape, bits: float) -> None:
    path = write_made(tmp_path / "made.gguf", shape)
    gguf = open_model(path)
    [size] = set(describe(gguf, ModelId("a" * 64)).layer_bytes)
    found = shape_of_gguf(gguf, name="made")
    assert (found.layers, found.hidden, found.ffn) == (shape.n_layers, shape.width, shape.ffn)
    assert bits_of_gguf(gguf) == pytest.approx(bits, rel=0.1)
    assert (size < SMALL_LAYER_BYTES / 50) == (shape is BARE)
    write_shard(path, 1, shape.n_layers - 1, tmp_path / "long.gguf")
    assert len(describe(open_model(tmp_path / "long.gguf"), ModelId("b" * 64)).layer_bytes) == (
        shape.n_layers - 2
    )
