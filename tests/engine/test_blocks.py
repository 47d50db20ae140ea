"""Blocks of 32: within half a step of each block's scale, whatever the width.

The bound. A scale is at least a 127th of its block's peak, so a value is at most 127
steps, and rounding to a whole number of them errs by half a step. Dividing a value by
its scale is rounded too, by at most 2^-18 of a step; multiplying back is exact.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from atoll.domain.wire import BLOCK_VALUES, I8_BLOCKS, row_bytes
from atoll.engine.blocks import Rows, decode_blocks, encode_blocks

WIDTHS = (1, 31, 32, 33, 64, 75)
PEAK_MAX = 2.0**127
"""A step more than float32's very largest values would be infinite."""
HALF_A_STEP = 0.5 + 2.0**-17


@st.composite
def any_rows(draw: st.DrawFn) -> Rows:
    """Rows whose blocks differ widely in size."""
    shape = draw(st.integers(1, 4)), draw(st.sampled_from(WIDTHS))
    floats = st.floats(width=32, min_value=-PEAK_MAX, max_value=PEAK_MAX)
    small = st.floats(-1, 1, width=32)
    return draw(hnp.arrays(np.float32, shape, elements=draw(st.sampled_from([floats, small]))))


def there_and_back(rows: Rows) -> Rows:
    payload = encode_blocks(rows)
    assert len(payload) == len(rows) * row_bytes(I8_BLOCKS, rows.shape[1])
    out = np.full_like(rows, np.nan)
    decode_blocks(out, payload)
    return out


def scales_of(payload: bytes, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """The scales in a payload, shape (rows, blocks), read apart from the code under test."""
    rows, n_embd = shape
    upper = payload[rows * n_embd :]
    halves = [b"\0\0" + upper[i : i + 2] for i in range(0, len(upper), 2)]
    found = np.frombuffer(b"".join(halves), "<f4").astype(np.float64)
    return found.reshape(rows, -(-n_embd // BLOCK_VALUES))


@given(rows=any_rows())
@settings(max_examples=300)
def test_each_value_errs_by_half_a_step_of_its_block(rows: Rows) -> None:
    scales = scales_of(encode_blocks(rows), rows.shape)
    back = there_and_back(rows).astype(np.float64)
    for block, scale in enumerate(scales.T):
        of = slice(block * BLOCK_VALUES, (block + 1) * BLOCK_VALUES)
        error = np.abs(back[:, of] - rows[:, of]).max(axis=1)
        assert (error <= scale * HALF_A_STEP).all()


@given(rows=any_rows())
def test_a_scale_is_hardly_more_than_a_127th_of_the_peak(rows: Rows) -> None:
    for block, scale in enumerate(scales_of(encode_blocks(rows), rows.shape).T):
        of = slice(block * BLOCK_VALUES, (block + 1) * BLOCK_VALUES)
        peaks = np.abs(rows[:, of]).max(axis=1).astype(np.float64)
        assert (scale >= peaks / 127 * (1 - 2.0**-23)).all()
        assert (scale <= np.maximum(peaks / 127 * (1 + 2.0**-7), 2.0**-126)).all()


@given(rows=any_rows())
def test_rows_are_encoded_apart(rows: Rows) -> None:
    """A row's outcome does not depend on who shares its window."""
    alone = [there_and_back(rows[i : i + 1]) for i in range(len(rows))]
    assert there_and_back(rows).tobytes() == np.concatenate(alone).tobytes()


@pytest.mark.parametrize("width", WIDTHS)
def test_a_large_value_costs_its_own_block_alone(width: int) -> None:
    rows = np.random.default_rng(5).uniform(-1, 1, (2, width)).astype(np.float32)
    rows[0, 0] = 103_772.0
    found = there_and_back(rows)
    assert abs(found[0, 0] - rows[0, 0]) <= 103_772 / 254 * (1 + 2.0**-7)
    assert np.abs(found[0, BLOCK_VALUES:] - rows[0, BLOCK_VALUES:]).max(initial=0) < 0.005
    assert np.abs(found[1] - rows[1]).max() < 0.005


@pytest.mark.parametrize("value", [0.0, -0.0, 1e-45, 2.0**-128])
def test_zeros_and_what_is_next_to_nothing(value: float) -> None:
    rows = np.full((2, 40), value, np.float32)
    rows[1, 39] = 3.0
    found = there_and_back(rows)
    assert not found[0].any()
    assert not found[1, :39].any()
    assert abs(found[1, 39] - 3) <= 3 / 254 * (1 + 2.0**-7)


@pytest.mark.parametrize("bits", [0x7F80, 0x7FC0, 0x7FFF, 0x8000, 0xBF80, 0xFF80, 0xFFFF])
def test_what_is_no_scale_spoils_its_block_and_no_other(bits: int) -> None:
    """Infinity, NaN, and all that is negative, zero too; even where all values are 0."""
    payload = encode_blocks(np.concatenate([np.zeros((1, 40)), np.ones((1, 40))]).astype("f4"))
    hostile = bytearray(payload)
    hostile[80:82] = bits.to_bytes(2, "little")
    out = np.zeros((2, 40), np.float32)
    decode_blocks(out, bytes(hostile))
    assert np.isnan(out[0, :32]).all()
    assert not out[0, 32:].any()
    assert np.isfinite(out[1]).all()


def test_the_largest_scale_overflows_and_is_seen() -> None:
    out = np.zeros((1, 2), np.float32)
    decode_blocks(out, bytes([127, 1]) + (0x7F7F).to_bytes(2, "little"))
    assert np.isinf(out[0, 0])
    assert np.isfinite(out[0, 1])


@given(payload=st.binary(min_size=2 * 37, max_size=2 * 37))
def test_any_bytes_of_the_right_length_decode(payload: bytes) -> None:
    decode_blocks(np.zeros((2, 33), np.float32), payload)


def test_rows_may_lie_apart() -> None:
    """Every second row of a buffer is no block of memory, and is written all the same."""
    rows = np.random.default_rng(6).standard_normal((3, 64)).astype(np.float32)
    buffer = np.zeros((6, 64), np.float32)
    decode_blocks(buffer[::2], encode_blocks(rows))
    assert np.array_equal(buffer[::2], there_and_back(rows))
    assert not buffer[1::2].any()
