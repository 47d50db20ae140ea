"""The token embedding, read row by row from the model file.

A first shard is fed hidden states like any other, so it needs no vocabulary
and no head. The rows come from the same table and the same conversion that
llama.cpp's `ggml_get_rows` uses, so the bits are the same; only rows that are
asked for become resident.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from atoll.domain.errors import BadModel
from atoll.engine.library import load_library
from atoll.model.gguf_types import TensorInfo

GGML_TYPE_F32 = 0


class EmbeddingTable:
    """Rows of `token_embd.weight`, shape (n_vocab, n_embd), converted on demand."""

    def __init__(self, path: Path, tensor: TensorInfo, *, scale: float) -> None:
        """Map the table.

        Args:
            path: The model's file that holds it.
            tensor: Where the table lies in it.
            scale: What rows are multiplied by (Gemma: sqrt(n_embd); else 1).

        Raises:
            BadModel: The engine cannot convert numbers of the table's type.
        """
        self.n_embd, self.n_vocab = tensor.dims[0], tensor.dims[1]
        self._scale = np.float32(scale)
        library = load_library()
        self._ffi = library.ffi
        self._type = int(tensor.type)
        self._to_float = library.lib.ggml_get_type_traits(int(tensor.type)).to_float
        if self._type != GGML_TYPE_F32 and self._to_float == self._ffi.NULL:
            raise BadModel(
                f"the token embedding is of type {tensor.type.name}, which the engine cannot read",
                hint="get the model in another quantisation",
            )
        self._row_bytes = tensor.size_bytes // self.n_vocab
        self._start = tensor.offset
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._base = self._ffi.from_buffer("uint8_t[]", self._map)

    def rows_into(self, out: NDArray[np.float32], tokens: Sequence[int]) -> None:
        """Write the hidden states that enter the first layer to `out`.

        Args:
            out: Shape (len(tokens), n_embd), float32, C-contiguous.
            tokens: Token ids.

        Raises:
            ValueError: A token id is outside the vocabulary.
        """
        target = self._ffi.from_buffer("float[]", out)
        for i, token in enumerate(tokens):
            if not 0 <= token < self.n_vocab:
                raise ValueError(f"token id {token} is outside the vocabulary of {self.n_vocab}")
            at = self._start + token * self._row_bytes
            if self._type == GGML_TYPE_F32:
                out[i] = np.frombuffer(self._map, "<f4", self.n_embd, at)
            else:
                self._to_float(self._base + at, target + i * self.n_embd, self.n_embd)
        if self._scale != 1:
            out *= self._scale
