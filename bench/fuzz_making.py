"""Makes bytes for readers to stumble over: sound messages with changes, and bytes with changes.

A message is made anew from its type, as plain values. A few of them are then replaced by
such as readers get wrong: the ends of number ranges, other types, too much, nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import msgspec
from msgspec import inspect

NUMBERS: tuple[Any, ...] = (
    *(-1, 0, 1, 2, 7, 31, 32, 127, 128, 255, 256, 4095, 4096, 4097, 65535, 65536),
    *(2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1),
    *(-128, -(2**31), -(2**63), 0.0, -0.0, 1.5, 1e308, 1e-308, 5e-324),
    *(float("nan"), float("inf"), float("-inf")),
)
TEXTS = ("", "a", "\x00", "\u202e", "é" * 40, "a" * 70, "a" * 300, "\U0001f600", "..", "[::1]:0")
NAMED: dict[str, Any] = {
    **dict.fromkeys(("node", "peer", "borrower", "gateway"), "ab" * 32),
    **dict.fromkeys(("model", "shard"), "cd" * 32),
    **dict.fromkeys(("nonce", "commitment", "hashes", "key"), bytes(range(32))),
    **{"signature": bytes(64), "data": b"abc", "host": "127.0.0.1", "port": 4242},
    **{"encoding": "f32", "secret": "s" * 24, "kind": "control", "version": 1},
    **{"size_bytes": 2**20, "piece_bytes": 2**20, "lent_bytes": 2**21, "burst_bytes": 2**16},
    **{"relay": "https://relay.example", "first": 1, "last": 2, "n_layers": 8},
}
"""What fields of these names hold in a sound message."""
DEEP = 2_000
LENGTHS = ("<I", ">I", "<Q", ">Q", "<H", ">H", "B")


def example(kind: inspect.Type, name: str = "") -> Any:
    """Plain values of a sound message of a type."""
    match kind:
        case inspect.StructType():
            values = {f.encode_name: example(f.type, f.name) for f in kind.fields}
            if kind.array_like:
                return [*([kind.tag] if kind.tag is not None else []), *values.values()]
            return ({kind.tag_field: kind.tag} if kind.tag is not None else {}) | values
        case inspect.UnionType(types):
            return example(types[0], name)
        case inspect.TupleType(items):
            return [example(item, name) for item in items]
        case inspect.VarTupleType(item) | inspect.ListType(item):
            return [example(item, name.removesuffix("s"))]
        case _:
            return _plain(kind, name)


def _plain(kind: inspect.Type, name: str) -> Any:
    found = NAMED.get(name)
    match kind:
        case inspect.IntType():
            return found if type(found) is int else 1
        case inspect.FloatType():
            return 0.5
        case inspect.BoolType():
            return False
        case inspect.StrType():
            return found if type(found) is str else "a"
        case inspect.BytesType():
            return found if type(found) is bytes else b"ab"
        case _:
            return None


def examples(union: Any) -> list[Any]:
    """One sound message of each type of a union, or of the only type, as plain values."""
    kind = inspect.type_info(union)
    kinds = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    return [example(one) for one in kinds]


def odd(rng: Random) -> Any:
    """A value that readers get wrong."""
    match rng.randrange(8):
        case 0 | 1 | 2:
            return rng.choice(NUMBERS)
        case 3:
            return rng.choice(TEXTS)
        case 4:
            return rng.randbytes(rng.choice((0, 1, 31, 32, 33, 64, 300)))
        case 5:
            return rng.choice((None, True, False, [], {}, [[]], {"": {}}))
        case 6:
            return [odd(rng) for _ in range(rng.randrange(4))]
        case _:
            return {rng.choice(TEXTS): odd(rng), "type": rng.choice(TEXTS)}


def changed(value: Any, rng: Random) -> Any:
    """A copy of plain values with one of them changed, anywhere."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        match rng.randrange(8):
            case 0:
                return {k: v for k, v in value.items() if k != key}
            case 1:
                return value | {rng.choice(TEXTS): odd(rng)}
            case _:
                return value | {key: changed(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.9:
        at = rng.randrange(len(value))
        match rng.randrange(8):
            case 0:
                return value[:at] + value[at + 1 :]
            case 1:
                return [*value[:at], odd(rng), *value[at:]]
            case 2:
                return value * rng.choice((2, 20))
            case _:
                return [*value[:at], changed(value[at], rng), *value[at + 1 :]]
    if type(value) is int and rng.random() < 0.3:
        return value + rng.choice((-1, 1, 2, 255))
    if isinstance(value, str | bytes) and value and rng.random() < 0.5:
        cut, most = rng.randrange(len(value)), rng.choice((1, 3))
        return value[:cut] if rng.random() < 0.5 else value * most
    return odd(rng)


def packed(value: Any) -> bytes:
    """Plain values in msgpack; numbers that it has no form for are cut."""
    return msgspec.msgpack.encode(_packable(value))


def _packable(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _packable(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_packable(v) for v in value]
    if type(value) is int:
        return min(max(value, -(2**63)), 2**64 - 1)
    return value


def deep(rng: Random) -> bytes:
    """Msgpack nested so deep that a reader which calls itself runs out of stack."""
    return rng.choice((b"\x91", b"\x81\xa0", b"\x92\xc0")) * rng.choice((50, DEEP)) + b"\xc0"


def havoc(data: bytes, rng: Random, partners: Sequence[bytes] = ()) -> bytes:
    """`data` with a few changes, of bits, bytes, lengths or parts."""
    out = bytearray(data)
    for _ in range(1 << rng.randrange(4)):
        rng.choice(_CHANGES)(out, rng)
    if partners and rng.random() < 0.1:
        other = rng.choice(partners)
        out[rng.randrange(len(out) + 1) :] = other[rng.randrange(len(other) + 1) :]
    return bytes(out)


def _flip(out: bytearray, rng: Random) -> None:
    if out:
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)


def _set(out: bytearray, rng: Random) -> None:
    if out:
        out[rng.randrange(len(out))] = rng.choice(
            (0, 1, 0x7F, 0x80, 0xC0, 0xFF, rng.randrange(256))
        )


def _number(out: bytearray, rng: Random) -> None:
    form = rng.choice(LENGTHS)
    size = struct.calcsize(form)
    value = int(rng.choice(NUMBERS[:24])) & ((1 << 8 * size) - 1)
    at = rng.randrange(len(out) + 1)
    out[at : at + size] = struct.pack(form, value)


def _insert(out: bytearray, rng: Random) -> None:
    at = rng.randrange(len(out) + 1)
    out[at:at] = rng.randbytes(rng.randrange(1, 9))


def _delete(out: bytearray, rng: Random) -> None:
    at = rng.randrange(len(out) + 1)
    del out[at : at + rng.choice((1, 2, 4, 8, 40))]


def _repeat(out: bytearray, rng: Random) -> None:
    at = rng.randrange(len(out) + 1)
    part = out[at : at + rng.randrange(1, 40)]
    out[at:at] = part * rng.choice((1, 1, 2, 8))


def _cut(out: bytearray, rng: Random) -> None:
    if rng.random() < 0.3:
        del out[rng.randrange(len(out) + 1) :]


_CHANGES: tuple[Callable[[bytearray, Random], None], ...] = (
    *(_flip, _set, _number, _number, _insert, _delete, _repeat, _cut),
)
