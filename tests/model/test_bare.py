"""The model of next to no weights: always the same, cut like any other."""

from __future__ import annotations

from pathlib import Path

from atoll.domain.ids import ModelId
from atoll.forecast.gguf_shape import bits_of_gguf, shape_of_gguf
from atoll.model.bare import N_LAYERS, write_bare
from atoll.model.manifest import describe
from atoll.model.parts import open_model
from atoll.model.shard import write_shard

SMALL_LAYER_BYTES = 2_000_000
"""Of a layer of the smallest model that people run."""


def test_it_is_the_same_every_time(tmp_path: Path) -> None:
    one, two = write_bare(tmp_path / "one.gguf"), write_bare(tmp_path / "two.gguf")
    assert one.read_bytes() == two.read_bytes()


def test_its_layers_are_alike_and_next_to_nothing(tmp_path: Path) -> None:
    gguf = open_model(write_bare(tmp_path / "bare.gguf"))
    manifest = describe(gguf, ModelId("a" * 64))
    assert len(set(manifest.layer_bytes)) == 1
    assert len(manifest.layer_bytes) == N_LAYERS
    assert manifest.layer_bytes[0] < SMALL_LAYER_BYTES / 50
    # It can be cut where its layers are to be timed.
    write_shard(tmp_path / "bare.gguf", 1, N_LAYERS - 1, tmp_path / "long.gguf")
    shape = shape_of_gguf(gguf, name="bare")
    assert (shape.layers, shape.hidden, shape.experts) == (N_LAYERS, 64, 0)
    assert 8 < bits_of_gguf(gguf) < 10
