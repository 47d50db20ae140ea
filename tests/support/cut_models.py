"""Cut models for the tests of the engine: shards on disk, and chains of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from atoll.engine.batch import Span
from atoll.engine.embedding import EmbeddingTable
from atoll.engine.llama import Context, ContextOptions, Model
from atoll.model.architectures import embedding_scale
from atoll.model.parts import open_model, tensor_file
from atoll.model.shard import write_shard

Rows = NDArray[np.float32]


def cut(model: Path, bounds: Sequence[int], folder: Path) -> list[Path]:
    """Shards of layers [bounds[0], bounds[1]) and so on."""
    shards = []
    for first, last in pairwise(bounds):
        shards.append(folder / f"{model.stem}-{first}-{last}.gguf")
        write_shard(model, first, last, shards[-1])
    return shards


def rescale(model: Path, tensor: str, factor: float, path: Path) -> Path:
    """A copy of a model at `path` with one of its f32 tensors multiplied by `factor`."""
    data, found = bytearray(model.read_bytes()), open_model(model).tensor(tensor)
    values = np.frombuffer(data, "<f4", found.size_bytes // 4, found.offset)
    values *= np.float32(factor)
    path.write_bytes(data)
    return path


def table_of(model: Path) -> EmbeddingTable:
    """The token embedding of a model."""
    gguf = open_model(model)
    place = tensor_file(model, gguf, gguf.tensor("token_embd.weight"))
    return EmbeddingTable(*place, scale=embedding_scale(gguf))


def embed(model: Path, tokens: Sequence[int]) -> Rows:
    """Hidden states that enter the first layer, shape (len(tokens), n_embd)."""
    table = table_of(model)
    rows = np.empty((len(tokens), table.n_embd), np.float32)
    table.rows_into(rows, tokens)
    return rows


class Chain:
    """Shards in a row in this process, from embedding to logits."""

    def __init__(self, model: Path, shards: Sequence[Path], options: ContextOptions) -> None:
        self._table = table_of(model)
        self._models = [Model(path) for path in shards]
        self._stages = [
            Context(shard, options, tap=shard is not self._models[-1]) for shard in self._models
        ]

    def logits(self, spans: list[Span], tokens: Sequence[int], *, exact: bool) -> list[Rows]:
        """Logits of every row of one legal call, copied."""
        n = len(tokens)
        rows = np.empty((n, self._table.n_embd), np.float32)
        self._table.rows_into(rows, tokens)
        for stage in self._stages[:-1]:
            stage.inputs(n)[:] = rows
            rows = stage.hidden(spans, exact=exact)
        self._stages[-1].inputs(n)[:] = rows
        found = self._stages[-1].logits(spans, list(range(n)), exact=exact)
        return [row.copy() for row in found]

    def close(self) -> None:
        """Free everything."""
        for stage in self._stages:
            stage.close()
        for model in self._models:
            model.close()
