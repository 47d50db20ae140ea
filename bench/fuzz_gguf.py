"""Makes small GGUF files, sound and not: the parts of one, with changes, put together anyhow."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from atoll.model.gguf_types import FORMAT_OF, MetaValue, TensorType, ValueType, tensor_bytes
from bench.fuzz_making import NUMBERS

WHOLE = [number for number in NUMBERS if type(number) is int]
DATA_BYTES_MAX = 8192


@dataclass
class Draft:
    """A file's parts; what it claims of them may be something else."""

    metadata: list[tuple[bytes, int, bytes]]
    tensors: list[tuple[bytes, tuple[int, ...], int, int]]
    data_bytes: int
    version: int = 3
    n_keys: int | None = None
    n_tensors: int | None = None
    alignment: int = 32
    gap: bytes = b""
    tail: bytes = field(default=b"", repr=False)

    def bytes(self) -> bytes:
        """The file."""
        n_tensors = len(self.tensors) if self.n_tensors is None else self.n_tensors
        n_keys = len(self.metadata) if self.n_keys is None else self.n_keys
        parts = [b"GGUF", struct.pack("<IQQ", self.version, n_tensors & M64, n_keys & M64)]
        for key, kind, raw in self.metadata:
            parts += [_string(key), struct.pack("<I", kind & M32), raw]
        for name, dims, kind, offset in self.tensors:
            numbers = [dim & M64 for dim in dims]
            parts += [
                *(_string(name), struct.pack("<I", len(dims))),
                struct.pack(f"<{len(numbers)}QIQ", *numbers, kind & M32, offset & M64),
            ]
        head = b"".join(parts) + self.gap
        return head + bytes(-len(head) % self.alignment) + bytes(self.data_bytes) + self.tail


M32, M64 = 2**32 - 1, 2**64 - 1


def _string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def draft(architecture: str, layers: int, *, tokens: int = 4, note: bytes = b"") -> Draft:
    """A sound file of a small model, all of whose tensors are one block wide."""
    arch = architecture
    metadata = {
        "general.architecture": MetaValue.of(ValueType.STRING, arch),
        "general.name": MetaValue.of(ValueType.STRING, "tide"),
        f"{arch}.block_count": _u32(layers),
        f"{arch}.context_length": _u32(64),
        f"{arch}.embedding_length": _u32(32),
        f"{arch}.feed_forward_length": _u32(32),
        f"{arch}.attention.head_count": _u32(2),
        f"{arch}.attention.head_count_kv": MetaValue.array(ValueType.INT32, [1] * layers),
        f"{arch}.attention.layer_norm_rms_epsilon": MetaValue.of(ValueType.FLOAT32, 1e-5),
        f"{arch}.attention.sliding_window": _u32(8),
        f"{arch}.rope.freq_base": MetaValue.of(ValueType.FLOAT32, 1e4),
        "tokenizer.ggml.model": MetaValue.of(ValueType.STRING, "gpt2"),
        "tokenizer.ggml.tokens": MetaValue.array(
            ValueType.STRING, [f"t{i}" for i in range(tokens)]
        ),
        "tokenizer.ggml.token_type": MetaValue.array(ValueType.INT32, [1] * tokens),
        "tokenizer.ggml.eos_token_id": _u32(1),
        "general.file_type": _u32(2),
    }
    names = [("token_embd.weight", (32, tokens)), ("output_norm.weight", (32,))]
    for layer in range(layers):
        for part in ("attn_norm", "attn_q", "ffn_up"):
            names.append((f"blk.{layer}.{part}.weight", (32,)))
    tensors, offset = [], 0
    for name, dims in names:
        kind = TensorType.F32 if len(dims) == 1 else TensorType.Q4_0
        tensors.append((name.encode(), dims, int(kind), offset))
        offset += -(-tensor_bytes(dims, kind) // 32) * 32
    found = [(key.encode(), int(value.type), value.raw) for key, value in metadata.items()]
    if note:
        found.insert(1, (b"general.description", int(ValueType.STRING), _string(note)))
    return Draft(found, tensors, offset)


def _u32(value: int) -> MetaValue:
    return MetaValue.of(ValueType.UINT32, value)


def changed_file(first: Draft, rng: Random) -> bytes:
    """A copy of a file with a few changes where they matter."""
    made = replace(first, metadata=list(first.metadata), tensors=list(first.tensors))
    for _ in range(rng.choice((1, 1, 2, 3))):
        rng.choice(_CHANGES)(made, rng)
    made.data_bytes = min(made.data_bytes, DATA_BYTES_MAX)
    return made.bytes()


def _value(rng: Random) -> tuple[int, bytes]:
    """A type and a value of it, mostly whole."""
    kind = rng.choice(list(ValueType))
    if kind is ValueType.ARRAY:
        element = rng.choice(list(ValueType))
        count = rng.choice((0, 1, 2, 3, 4, 5, 100, *WHOLE[-8:]))
        body = b"".join(_one(element, rng) for _ in range(min(count, rng.choice((4, 200)))))
        return kind, struct.pack("<IQ", element, count & M64) + body
    return kind, _one(kind, rng)


def _one(kind: ValueType, rng: Random) -> bytes:
    if kind in FORMAT_OF:
        form = "<" + FORMAT_OF[kind]
        if kind in (ValueType.FLOAT32, ValueType.FLOAT64):
            return struct.pack(form, rng.choice((0.0, 1.0, -1.0, float("nan"), float("inf"), 1e30)))
        size = struct.calcsize(form)
        return (rng.choice(WHOLE) & ((1 << 8 * size) - 1)).to_bytes(size, "little")
    text = rng.choice((b"", b"llama", b"gemma3", b"qwen2", b"\xff", b"a" * 90, b"t1"))
    return struct.pack("<Q", len(text) if rng.random() < 0.9 else rng.choice(WHOLE) & M64) + text


def _set_value(made: Draft, rng: Random) -> None:
    if made.metadata:
        at = rng.randrange(len(made.metadata))
        made.metadata[at] = (made.metadata[at][0], *_value(rng))


def _set_number(made: Draft, rng: Random) -> None:
    """Another number of the same type: what is read on is wrong, not how it is written."""
    numbers = [i for i, (_, kind, raw) in enumerate(made.metadata) if len(raw) == 4]
    if numbers:
        at = rng.choice(numbers)
        key, kind, _ = made.metadata[at]
        made.metadata[at] = (key, kind, struct.pack("<I", rng.choice(WHOLE) & M32))


def _set_per_layer(made: Draft, rng: Random) -> None:
    """An array of numbers, as long as the one before or not."""
    arrays = [i for i, (_, kind, _) in enumerate(made.metadata) if kind == ValueType.ARRAY]
    if arrays:
        at = rng.choice(arrays)
        key, kind, raw = made.metadata[at]
        count = struct.unpack_from("<Q", raw, 4)[0] + rng.choice((0, 0, 0, -1, 1))
        element = rng.choice(list(FORMAT_OF))
        body = b"".join(_one(element, rng) for _ in range(max(0, min(count, 512))))
        made.metadata[at] = (key, kind, struct.pack("<IQ", element, count & M64) + body)


def _set_key(made: Draft, rng: Random) -> None:
    if made.metadata:
        at = rng.randrange(len(made.metadata))
        others = (b"", b"a" * 300, b"\xff\xfe", b"general.alignment", b"split.count", b"split.no")
        key = rng.choice((*others, rng.choice(made.metadata)[0]))
        made.metadata[at] = (key, *made.metadata[at][1:])


def _drop_key(made: Draft, rng: Random) -> None:
    if made.metadata:
        del made.metadata[rng.randrange(len(made.metadata))]


def _add_key(made: Draft, rng: Random) -> None:
    arch = rng.choice((b"llama", b"gemma3", b"qwen3moe", b"general"))
    ends = (b".attention.key_length", b".expert_count", b".rope.dimension_sections", b".alignment")
    made.metadata.append((arch + rng.choice(ends), *_value(rng)))


def _set_tensor(made: Draft, rng: Random) -> None:
    if made.tensors:
        at = rng.randrange(len(made.tensors))
        name, dims, kind, offset = made.tensors[at]
        match rng.randrange(4):
            case 0:
                others = (b"blk.999999999.a", b"blk.3.", b"output.weight", b"\xff", b"a" * 64)
                name = rng.choice((*others, made.tensors[0][0], b"", b"blk.0.ffn_up.weight"))
            case 1:
                dims = tuple(rng.choice((*dims, *WHOLE)) for _ in range(rng.randrange(6)))
            case 2:
                kind = rng.choice((*(int(known) for known in TensorType), *WHOLE))
            case _:
                offset = rng.choice((offset + 1, offset + 32, *WHOLE))
        made.tensors[at] = (name, dims, kind, offset)


def _drop_tensor(made: Draft, rng: Random) -> None:
    if made.tensors:
        del made.tensors[rng.randrange(len(made.tensors))]


def _claim(made: Draft, rng: Random) -> None:
    match rng.randrange(5):
        case 0:
            made.version = rng.choice((0, 1, 2, 4, 2**24, 2**32 - 1))
        case 1:
            made.n_keys = rng.choice((len(made.metadata) + rng.choice((-1, 1)), *WHOLE))
        case 2:
            made.n_tensors = rng.choice((len(made.tensors) + rng.choice((-1, 1)), *WHOLE))
        case 3:
            made.data_bytes = rng.choice((0, max(0, made.data_bytes - 1), made.data_bytes + 32))
        case _:
            made.gap = rng.randbytes(rng.choice((1, 8, 64)))


_CHANGES: Sequence[Callable[[Draft, Random], None]] = (
    *(_set_value, _set_value, _set_number, _set_number, _set_number, _set_per_layer),
    *(_set_key, _drop_key, _add_key, _set_tensor, _set_tensor, _drop_tensor, _claim),
)
