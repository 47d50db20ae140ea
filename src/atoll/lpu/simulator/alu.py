"""Arithmetic of the vector unit, and numbers as bytes on streams.

Arrays of a value have shape (vectors, lanes). Halves are held as float32 that a half can be,
which changes none: every half is a float32, and comes back the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atoll.domain.errors import BadRequest
from atoll.lpu.program import NUMBER_BYTES, AluOp, Number, Vector

Array = NDArray[Any]
Bytes = NDArray[np.uint8]

HELD: dict[Number, type[np.generic]] = {
    "int8": np.int8,
    "int32": np.int32,
    "f16": np.float32,
    "f32": np.float32,
}
"""How numbers of a format are held here."""
STORED: dict[Number, np.dtype[Any]] = {
    "int8": np.dtype("i1"),
    "int32": np.dtype("<i4"),
    "f16": np.dtype("<f2"),
    "f32": np.dtype("<f4"),
}

BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
}
CONVERSIONS: dict[AluOp, Number] = {"int8": "int8", "int32": "int32", "f16": "f16", "f32": "f32"}
_FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "exp": np.exp,
    "tanh": np.tanh,
    "rsqrt": lambda x: np.float32(1) / np.sqrt(x),
}
_INTEGERS = frozenset({"int8", "int32"})


def kinds(vector: Vector, name: str) -> tuple[Number, ...]:
    """Formats of all values: operands have their own; of arithmetic f32, or int32 where all
    arguments are integers and no constant is among them; of conversions, what they name.

    Raises:
        BadRequest: A step has too many or too few arguments, or uses what is not yet there.
    """
    found: list[Number] = [operand.number for operand in vector.operands]
    for step in vector.steps:
        wanted = 2 if step.op in BINARY else 1
        if len(step.arguments) != wanted:
            raise BadRequest(f"{name}: {step.op} of {len(step.arguments)} and not of {wanted}")
        used: list[Number] = []
        for argument in step.arguments:
            if not isinstance(argument, int):
                used.append("f32")
            elif 0 <= argument < len(found):
                used.append(found[argument])
            else:
                raise BadRequest(f"{name}: {step.op} of value {argument}, which is not there")
        found.append(_kind(step.op, used))
    return tuple(found)


def _kind(op: AluOp, used: Sequence[Number]) -> Number:
    if op in CONVERSIONS:
        return CONVERSIONS[op]
    if op not in _FUNCTIONS and _INTEGERS.issuperset(used):
        return "int32"
    return "f32"


def compute(op: AluOp, arguments: Sequence[Array], used: Sequence[Number]) -> Array:
    """A step on arrays of the formats `used`; float32 overflows to infinity and int32 wraps."""
    kind = _kind(op, used)
    if op in CONVERSIONS:
        return convert(arguments[0], used[0], kind)
    held = [np.asarray(a).astype(HELD[kind], copy=False) for a in arguments]
    if op in BINARY:
        return BINARY[op](held[0], held[1])
    if op == "relu":
        return np.maximum(held[0], HELD[kind](0))
    return _FUNCTIONS[op](held[0])


def convert(values: Array, source: Number, target: Number) -> Array:
    """To a format: to the nearest, of two the even one, and for integers held within it (what
    is no number becomes 0).
    """
    if source == target:
        return values
    if target == "f32" or (target == "f16" and source == "int8"):
        return values.astype(np.float32)
    if target == "f16":
        # An int32 that a half can be is a float32 too, so that none is rounded twice.
        return values.astype(np.float32).astype(np.float16).astype(np.float32)
    bounds = np.iinfo(STORED[target])
    if source in _INTEGERS:
        return np.clip(values, bounds.min, bounds.max).astype(HELD[target])
    whole = np.rint(np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=None, neginf=None))
    return np.clip(whole, bounds.min, bounds.max).astype(HELD[target])


def encode(values: Array, number: Number) -> Bytes:
    """Numbers of shape (n, lanes) as bytes on streams, shape (n, bytes of a number, lanes)."""
    stored = np.ascontiguousarray(values, dtype=STORED[number])
    count, lanes = stored.shape
    flat = stored.view(np.uint8).reshape(count, lanes, NUMBER_BYTES[number])
    return flat.transpose(0, 2, 1)


def decode(streams: Bytes, number: Number) -> Array:
    """Bytes of shape (n, bytes of a number, lanes) as numbers of shape (n, lanes)."""
    if number == "int8":
        return streams[:, 0].view(np.int8)
    flat = np.ascontiguousarray(streams.transpose(0, 2, 1))
    return flat.view(STORED[number])[..., 0].astype(HELD[number], copy=False)
