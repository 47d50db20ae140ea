"""Hidden states in blocks of 32: one scale a block, one signed byte a value.

All values come first, row after row, then the scales of all blocks. A scale is the
upper half of a 32-bit float, which reaches as far as hidden states do; it is rounded
up, so that no value of its block is beyond 127 steps. It is never below 2^-126, which
spares blocks of zeros a case of their own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from atoll.domain.wire import BLOCK_VALUES

Rows = NDArray[np.float32]

STEPS = np.float32(127)
SCALE_MIN = np.float32(2.0**-126)
HALF_BITS = 16
NO_SCALE = 0x7F80
"""Upper halves from here on are infinity, NaN and all that is negative."""
NAN_BITS = 0x7FC0


def encode_blocks(rows: Rows) -> bytes:
    """Payload of hidden states, shape (rows, n_embd), float32, finite."""
    n_embd = rows.shape[1]
    starts = range(0, n_embd, BLOCK_VALUES)
    peaks = np.maximum.reduceat(np.abs(rows), starts, axis=1)
    least = np.maximum(peaks / STEPS, SCALE_MIN)
    bits = (least.view(np.uint32) + 0xFFFF) >> HALF_BITS
    steps = rows / _each_value((bits << HALF_BITS).view(np.float32), n_embd)
    np.rint(steps, out=steps)
    return b"".join((steps.astype(np.int8).tobytes(), bits.astype("<u2").tobytes()))


def decode_blocks(out: Rows, payload: bytes | memoryview) -> None:
    """Write the hidden states of a payload of the right length to `out`.

    Blocks whose scale is negative, infinite or NaN become NaN, for the caller to find.
    """
    rows, n_embd = out.shape
    bits = np.frombuffer(payload, "<u2", offset=rows * n_embd).reshape(rows, -1)
    sound = np.where(bits < NO_SCALE, bits, NAN_BITS).astype(np.uint32)
    out[:] = np.frombuffer(payload, np.int8, count=rows * n_embd).reshape(rows, n_embd)
    with np.errstate(over="ignore"):  # found by the caller too
        out *= _each_value((sound << HALF_BITS).view(np.float32), n_embd)


def _each_value(scales: Rows, n_embd: int) -> Rows:
    """The scale of every value; the last block may be shorter."""
    return np.repeat(scales, BLOCK_VALUES, axis=1)[:, :n_embd]
