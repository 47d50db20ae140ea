"""When a demo has shown what it is to show."""

from __future__ import annotations

import msgspec
import pytest

from atoll.demo.result import DemoResult, DemoStage

RESULT = DemoResult(
    model="tide",
    prompt="Why?",
    answer="So.",
    prompt_tokens=9,
    completion_tokens=2,
    start_s=1.5,
    first_token_ms=40.0,
    tokens_per_s=50.0,
    whole_tokens_per_s=60.0,
    compared=64,
    equal=64,
    threads=2,
    gateway_memory_bytes=200 << 20,
    ends=((0, 1), (29, 30)),
    stages=(DemoStage("reef", 1, 29, 50 << 20, 90 << 20, 7.25),),
    lap=None,
)


@pytest.mark.parametrize(
    ("compared", "equal", "is_equal"), [(64, 64, True), (64, 63, False), (0, 0, False)]
)
def test_every_token_must_be_equal_and_there_must_be_some(
    compared: int, equal: int, is_equal: bool
) -> None:
    result = msgspec.structs.replace(RESULT, compared=compared, equal=equal)
    assert result.is_equal is is_equal
