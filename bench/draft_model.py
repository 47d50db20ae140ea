"""A draft model of the same tokeniser: the model itself, its weights in four bits.

There is no smaller model with SmolLM2's tokeniser. This one computes as much a token; it
is smaller on the way from memory alone, and shows what drafts bring over distance.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np

from atoll.model import gguf_writer
from atoll.model.files import atomic_file
from atoll.model.gguf import open_gguf
from atoll.model.gguf_types import MetaValue, TensorType, ValueType
from atoll.model.gguf_writer import TensorSpec
from atoll.store.layout import Store

_FILE_TYPE_Q4_0 = 2
"""LLAMA_FTYPE_MOSTLY_Q4_0 of llama.h."""


def make_q4_0(store: Store, model: Path) -> Path:
    """The model at `model` with its matrices in Q4_0; made unless it is there already."""
    path = store.home / "bench" / f"{model.stem}-q4_0.gguf"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_q4_0(model, path)
    return path


def write_q4_0(model: Path, path: Path) -> None:
    """Write it; appears only when complete."""
    metadata = dict(open_gguf(model).metadata)
    metadata["general.file_type"] = MetaValue.of(ValueType.UINT32, _FILE_TYPE_Q4_0)
    read = list(gguf.GGUFReader(model).tensors)
    specs = [TensorSpec(t.name, tuple(int(n) for n in t.shape), _type_of(t)) for t in read]
    with atomic_file(path) as out:
        data = (_data(tensor, spec) for tensor, spec in zip(read, specs, strict=True))
        for chunk in gguf_writer.stream(metadata, specs, data):
            out.write(chunk)


def _type_of(tensor: gguf.ReaderTensor) -> TensorType:
    return TensorType.Q4_0 if len(tensor.shape) > 1 else TensorType.F32


def _data(tensor: gguf.ReaderTensor, spec: TensorSpec) -> Iterator[bytes]:
    values = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
    if spec.type is TensorType.F32:
        yield values.astype("<f4").tobytes()
        return
    yield gguf.quantize(values, gguf.GGMLQuantizationType.Q4_0).tobytes()
