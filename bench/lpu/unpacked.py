"""A model's file with all its weights as f32: on it the engine rounds no activations.

Where weights are packed, llama.cpp rounds what they are multiplied with to 8 bits as well
(ggml-cpu.c, `vec_dot_type`). The same weights as f32 are multiplied with f32.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from atoll.engine.float_weights import unpack
from atoll.model import gguf_writer
from atoll.model.files import atomic_file
from atoll.model.gguf_types import GgufFile, TensorType
from atoll.model.gguf_writer import TensorSpec
from atoll.model.parts import open_bytes, open_model


def write_unpacked(path: Path, out: Path) -> Path:
    """Write the model at `path` to `out`, which appears when it is complete."""
    file = open_model(path)
    tensors = [TensorSpec(tensor.name, tensor.dims, TensorType.F32) for tensor in file.tensors]
    with atomic_file(out) as written:
        for chunk in gguf_writer.stream(file.metadata, tensors, _data(path, file)):
            written.write(chunk)
    return out


def _data(path: Path, file: GgufFile) -> Iterator[list[bytes]]:
    with open_bytes(path, file) as source:
        for tensor in file.tensors:
            source.seek(tensor.offset)
            packed = np.frombuffer(source.read(tensor.size_bytes), np.uint8)
            rows = math.prod(tensor.dims[1:])
            yield [unpack(packed.reshape(rows, -1), tensor).astype("<f4").tobytes()]
