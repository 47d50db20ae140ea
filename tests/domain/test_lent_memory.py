"""What may be said about lent memory and on memory links."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.domain.bulk import BulkBeat, Parting
from atoll.domain.ids import NodeId
from atoll.domain.lent_memory import (
    BLOB_BYTES_MAX,
    PART_BYTES,
    BlobKept,
    MemoryGone,
    PutBlob,
    is_name,
    lending_problem,
    memory_problem,
    part_bytes,
    parts_of,
)


@pytest.mark.parametrize("name", ["a", "!", "~", "3/7-stage.1:2", "x" * 200])
def test_names(name: str) -> None:
    assert is_name(name)
    assert memory_problem(PutBlob(name, 1)) == ""


@pytest.mark.parametrize(
    "name", ["", " ", "a b", "a\n", "\n", "a\x00", "\x7f", "ä", "\ud800", "x" * 201]
)
def test_what_is_no_name(name: str) -> None:
    assert not is_name(name)


@given(st.integers(1, BLOB_BYTES_MAX))
def test_parts_tile_a_blob(size_bytes: int) -> None:
    n = parts_of(size_bytes)
    assert (n - 1) * PART_BYTES + part_bytes(size_bytes, n - 1) == size_bytes
    assert 0 < part_bytes(size_bytes, n - 1) <= PART_BYTES
    assert n == 1 or part_bytes(size_bytes, 0) == PART_BYTES


def test_what_has_no_numbers_cannot_be_wrong() -> None:
    assert memory_problem(BlobKept()) == memory_problem(Parting("why")) == ""
    assert memory_problem(BulkBeat(-1)) == memory_problem(BulkBeat(1 << 63)) != ""
    assert lending_problem(MemoryGone(NodeId("0" * 64))) == ""
