"""Hidden states to payload bytes and back.

f32: little-endian floats, row after row; nothing is lost.
f16s: rows rounded to half precision, followed, after all rows, by one signed
byte a row, an exponent. A row whose largest value does not lie in [2^-2, 2^15)
is first multiplied by the power of two with that exponent, so that it lies in
[2^14, 2^15). Plain halves overflow: hidden states of
Gemma 3 270M reach 103,772. Multiplying by a power of two loses nothing.
i8b32: see `blocks`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from atoll.domain.wire import F16_SCALED, F32, I8_BLOCKS, row_bytes
from atoll.engine.blocks import decode_blocks, encode_blocks

Rows = NDArray[np.float32]

TOP_EXPONENT = 15
PLAIN_MIN, PLAIN_MAX = 0.25, 2.0**TOP_EXPONENT
"""A row whose largest value lies between these goes unscaled: halves hold it well."""
EXPONENT_MIN, EXPONENT_MAX = -126, 127
UNSCALED = b"\0"


class NotFinite(ValueError):
    """Hidden states with NaN or infinity in them."""


def encode(rows: Rows, encoding: str) -> bytes:
    """Payload of hidden states.

    Args:
        rows: Shape (rows, n_embd), float32, finite.
        encoding: One of `domain.wire.ENCODINGS`.

    Raises:
        NotFinite: A value is NaN or infinite.
        ValueError: The encoding is unknown.
    """
    # NaN is both the maximum and the minimum wherever there is one.
    peak = max(float(rows.max()), -float(rows.min()))
    if not math.isfinite(peak):
        raise NotFinite("hidden states hold NaN or infinity")
    if encoding == F32:
        return rows.astype("<f4", copy=False).tobytes()
    if encoding == I8_BLOCKS:
        return encode_blocks(rows)
    if encoding != F16_SCALED:
        raise ValueError(f"unknown encoding {encoding!r}")
    if len(rows) == 1 and PLAIN_MIN <= peak < PLAIN_MAX:
        return b"".join((rows.astype("<f2").tobytes(), UNSCALED))
    peaks = np.abs(rows).max(axis=1)
    exponent = np.clip(TOP_EXPONENT - np.frexp(peaks)[1], EXPONENT_MIN, EXPONENT_MAX)
    exponent[(peaks >= PLAIN_MIN) & (peaks < PLAIN_MAX)] = 0
    scaled = np.ldexp(rows, exponent[:, None]).astype("<f2")
    return b"".join((scaled.tobytes(), exponent.astype(np.int8).tobytes()))


def decode_into(out: Rows, payload: bytes | memoryview, encoding: str) -> None:
    """Write the hidden states of a payload to `out`, shape (rows, n_embd), float32.

    NaN and infinity pass. Rows that a stranger sent must be found finite by
    `is_finite` before anything is computed with them: what got into a cache stays
    there and spoils later sessions (see `engine.scrub`).

    Raises:
        ValueError: The length does not fit or the encoding is unknown.
    """
    rows, n_embd = out.shape
    if len(payload) != rows * row_bytes(encoding, n_embd):
        raise ValueError(f"payload of {len(payload)} bytes does not hold {rows} rows")
    if encoding == F32:
        out[:] = np.frombuffer(payload, "<f4").reshape(rows, n_embd)
        return
    if encoding == I8_BLOCKS:
        decode_blocks(out, payload)
        return
    out[:] = np.frombuffer(payload, "<f2", count=rows * n_embd).reshape(rows, n_embd)
    scales = bytes(payload[2 * rows * n_embd :])
    if any(scales):
        exponent = np.frombuffer(scales, np.int8).astype(np.int32)
        with np.errstate(over="ignore", invalid="ignore"):  # these pass, as said
            np.ldexp(out, -exponent[:, None], out=out)


def is_finite(rows: Rows) -> bool:
    """Whether no value is NaN or infinite.

    One pass without a temporary in the usual case: the sum of squares of `rows` is
    finite only if all of them are. (0.5 us for a row of 576 or 2,048 values.)
    """
    return math.isfinite(np.vdot(rows, rows)) or bool(np.isfinite(rows).all())
