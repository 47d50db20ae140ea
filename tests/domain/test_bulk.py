"""Pieces of a shard: how large, how many, and what an outline must be."""

from __future__ import annotations

import pytest

from atoll.domain.bulk import (
    HASH_BYTES,
    PIECE_BYTES_MIN,
    PIECES_MAX,
    Outline,
    outline_problem,
    piece_bytes_for,
)

GIB = 1 << 30


@pytest.mark.parametrize(
    ("size", "piece"),
    [(1, 1 << 20), (30_000_000, 1 << 20), (4 * GIB, 1 << 20), (4 * GIB + 1, 2 << 20)],
)
def test_pieces_grow_with_the_shard(size: int, piece: int) -> None:
    assert piece_bytes_for(size) == piece


def test_a_petabyte_still_fits_into_an_outline() -> None:
    size = (1 << 50) - 1
    assert -(-size // piece_bytes_for(size)) <= PIECES_MAX


@pytest.mark.parametrize(
    ("outline", "problem"),
    [
        (Outline(PIECE_BYTES_MIN + 1, PIECE_BYTES_MIN, bytes(2 * HASH_BYTES)), ""),
        (Outline(0, PIECE_BYTES_MIN, b""), "a shard of 0 bytes"),
        (Outline(1 << 50, PIECE_BYTES_MIN, b""), "a shard of 1125899906842624 bytes"),
        (Outline(5, 1, bytes(5 * HASH_BYTES)), "pieces of 1 bytes"),
        (Outline(5, 0, b""), "pieces of 0 bytes"),
        (Outline(5, PIECE_BYTES_MIN, b""), "another number of hashes than of pieces"),
        (Outline(5, PIECE_BYTES_MIN, bytes(33)), "another number of hashes than of pieces"),
    ],
)
def test_an_outline_is_checked(outline: Outline, problem: str) -> None:
    assert outline_problem(outline) == problem
