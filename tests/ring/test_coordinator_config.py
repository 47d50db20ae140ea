from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from atoll.ring.coordinator_config import CoordinatorConfig

GOOD = CoordinatorConfig(n_slots=4, context=32, rows_max=256)
COUNTS = [
    "n_slots",
    "context",
    "rows_max",
    "chunk_rows",
    "exact_chunk_rows",
    "lanes",
    "prefill_in_flight",
    "credits",
    "return_credits",
]


@pytest.mark.parametrize("field", COUNTS)
def test_every_limit_is_at_least_one(field: str) -> None:
    changes: dict[str, Any] = {field: 0}
    with pytest.raises(ValueError, match="at least 1"):
        dataclasses.replace(GOOD, **changes)


def test_nobody_needs_to_wait() -> None:
    assert dataclasses.replace(GOOD, waiting_max=0).waiting_max == 0
    with pytest.raises(ValueError, match="at least 1"):
        dataclasses.replace(GOOD, waiting_max=-1)


def test_prompts_may_take_no_heed_of_others() -> None:
    assert dataclasses.replace(GOOD, beside_rows=0).beside_rows == 0
    with pytest.raises(ValueError, match="at least 1"):
        dataclasses.replace(GOOD, beside_rows=-1)


def test_chunks_fit_a_call() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        dataclasses.replace(GOOD, rows_max=100)


def test_exact_chunks_keep_the_bits() -> None:
    with pytest.raises(ValueError, match="at most 63"):
        dataclasses.replace(GOOD, exact_chunk_rows=64)


@pytest.mark.parametrize(("field", "value"), [("encoding", "q2"), ("exact_encoding", "f16s")])
def test_encodings(field: str, value: str) -> None:
    changes: dict[str, Any] = {field: value}
    with pytest.raises(ValueError, match="do not serve"):
        dataclasses.replace(GOOD, **changes)
