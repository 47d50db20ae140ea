from __future__ import annotations

import pytest
from msgspec.structs import fields, replace

from atoll.ring.stage_messages import StageConfig

GOOD = StageConfig(n_slots=4, context=32, rows_max=8)


@pytest.mark.parametrize("field", [f.name for f in fields(StageConfig)])
def test_every_limit_is_at_least_one(field: str) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        replace(GOOD, **{field: 0})


def test_credits_fit_the_queue() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        replace(GOOD, credits=9, queue_max=8)


def test_rows_fit_the_wire() -> None:
    with pytest.raises(ValueError, match="beyond the wire"):
        replace(GOOD, rows_max=5000)
