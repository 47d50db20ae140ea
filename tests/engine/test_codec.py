"""Hidden states to bytes and back: exact in f32, within half a step of the peak in f16s.

What blocks of bytes lose is told in `test_blocks`.

The bound. A row's peak p is the largest magnitude in it. Unscaled, or scaled by
a power of two so that p lies in [2^14, 2^15), each value is rounded to a half of
11 significant bits, so its error is at most 2^-11 of itself; values too small
for a full half are rounded to multiples of 2^-24, an error of at most 2^-25
where p is at least 2^-2. Both are at most 2^-11 * p. Scaling is exact.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from atoll.domain.wire import ENCODINGS, F16_SCALED, F32, I8_BLOCKS, row_bytes
from atoll.engine.codec import NotFinite, Rows, decode_into, encode, is_finite

GEMMA_PEAK = 103_772.0
"""Seen in hidden states of Gemma 3 270M; the largest half is 65,504."""
PEAK_MAX = 2.0**127
"""Rounded to 11 bits, float32's very largest values would become infinite."""

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9)
FLOATS = st.floats(width=32, allow_nan=False, min_value=-PEAK_MAX, max_value=PEAK_MAX)
ROWS = hnp.arrays(np.float32, SHAPES, elements=FLOATS)


def there_and_back(rows: Rows, encoding: str) -> Rows:
    payload = encode(rows, encoding)
    assert len(payload) == len(rows) * row_bytes(encoding, rows.shape[1])
    out = np.full_like(rows, np.nan)
    decode_into(out, payload, encoding)
    return out


def assert_within_bound(rows: Rows) -> None:
    error = np.abs(there_and_back(rows, F16_SCALED).astype(np.float64) - rows)
    peaks = np.abs(rows).max(axis=1).astype(np.float64)
    assert (error.max(axis=1) <= peaks * 2.0**-11).all()


@given(rows=ROWS)
def test_f32_loses_nothing(rows: Rows) -> None:
    assert there_and_back(rows, F32).tobytes() == rows.tobytes()


@given(rows=ROWS)
@settings(max_examples=300)
def test_f16s_errs_by_half_a_step_of_each_rows_peak(rows: Rows) -> None:
    assert_within_bound(rows)


@given(rows=ROWS)
def test_rows_are_encoded_apart(rows: Rows) -> None:
    """A row's outcome does not depend on who shares its window."""
    together = there_and_back(rows, F16_SCALED)
    alone = [there_and_back(rows[i : i + 1], F16_SCALED) for i in range(len(rows))]
    assert together.tobytes() == np.concatenate(alone).tobytes()


@given(rows=ROWS)
def test_a_second_trip_changes_nothing(rows: Rows) -> None:
    """What was rounded once stays, so that forwarding adds no error."""
    once = there_and_back(rows, F16_SCALED)
    assert there_and_back(once, F16_SCALED).tobytes() == once.tobytes()


@pytest.mark.parametrize("peak", [GEMMA_PEAK, 65_504.0, 32_768.0, 0.25, 1e-6, 1e-38, 1e-45, 1e38])
def test_peaks_from_tiny_to_huge(peak: float) -> None:
    rng = np.random.default_rng(3)
    rows = rng.uniform(-1, 1, (5, 64)).astype(np.float32)
    rows *= np.float32(peak) / np.abs(rows).max(axis=1, keepdims=True)
    rows[:, 7] = peak
    assert_within_bound(rows)
    assert_within_bound(rows[:1])


def test_plain_halves_would_overflow_where_scaled_ones_do_not() -> None:
    row = np.array([[GEMMA_PEAK, 1.0]], np.float32)
    with np.errstate(over="ignore"):
        assert np.isinf(row.astype(np.float16)).any()
    assert abs(there_and_back(row, F16_SCALED)[0, 0] - GEMMA_PEAK) <= GEMMA_PEAK * 2.0**-11


def test_small_and_large_rows_in_one_window() -> None:
    scales = np.array([[1e-20], [1.0], [1e20], [0.0], [GEMMA_PEAK]], np.float32)
    rows = np.random.default_rng(4).standard_normal((5, 32)).astype(np.float32) * scales
    assert_within_bound(rows)
    assert not there_and_back(rows, F16_SCALED)[3].any()


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("n", [1, 3])
def test_nan_and_infinity_are_refused(encoding: str, bad: float, n: int) -> None:
    rows = np.ones((n, 8), np.float32)
    rows[n - 1, 5] = bad
    with pytest.raises(NotFinite, match="NaN or infinity"):
        encode(rows, encoding)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_wrong_lengths_are_refused(encoding: str) -> None:
    rows = np.ones((3, 8), np.float32)
    payload = encode(rows, encoding)
    for wrong in (payload[:-1], payload + b"\0", b"", payload[: len(payload) // 3]):
        with pytest.raises(ValueError, match="does not hold 3 rows"):
            decode_into(rows, wrong, encoding)


def test_unknown_encodings_are_refused() -> None:
    rows = np.ones((1, 8), np.float32)
    with pytest.raises(ValueError, match="unknown encoding 'int8'"):
        encode(rows, "int8")
    with pytest.raises(ValueError, match="unknown encoding 'int8'"):
        decode_into(rows, b"", "int8")


@given(payload=st.binary(min_size=2 * 17, max_size=2 * 17))
def test_any_bytes_of_the_right_length_decode(payload: bytes) -> None:
    """Also those that overflow: whether they are finite is asked apart."""
    out = np.zeros((2, 8), np.float32)
    decode_into(out, payload, F16_SCALED)
    assert is_finite(out) == bool(np.isfinite(out).all())


def test_hostile_values_pass_decoding_and_are_seen() -> None:
    out = np.zeros((1, 2), np.float32)
    assert is_finite(out)
    decode_into(out, np.array([np.nan, 1], "<f4").tobytes(), F32)
    assert not is_finite(out)
    decode_into(out, np.array([np.inf, 1], "<f2").tobytes() + b"\0", F16_SCALED)
    assert not is_finite(out)
    largest, exponent = np.array([65504, 1], "<f2").tobytes(), (-128).to_bytes(1, signed=True)
    decode_into(out, largest + exponent, F16_SCALED)
    assert not is_finite(out)
    decode_into(out, b"\0\0" + np.array([-1], "<f4").tobytes()[2:], I8_BLOCKS)
    assert not is_finite(out)


@given(rows=hnp.arrays(np.float32, SHAPES, elements=st.floats(width=32)))
def test_finite_is_what_numpy_calls_so(rows: Rows) -> None:
    """Squares that overflow are no sign of anything."""
    assert is_finite(rows) == bool(np.isfinite(rows).all())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("n", [1, 70])
def test_one_bad_value_among_huge_ones_is_seen(bad: float, n: int) -> None:
    rows = np.full((n, 600), 3e38, np.float32)
    assert is_finite(rows)
    rows[-1, 571] = bad
    assert not is_finite(rows)


def test_payloads_may_be_views() -> None:
    rows = np.arange(16, dtype=np.float32).reshape(2, 8)
    for encoding in ENCODINGS:
        payload = encode(rows, encoding)
        out = np.zeros_like(rows)
        decode_into(out, memoryview(b"xx" + payload)[2:], encoding)
        assert np.array_equal(out, there_and_back(rows, encoding))
