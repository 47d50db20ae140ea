"""What a measurement may hold, and what follows from it."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.domain.ids import ModelId, ShardId
from atoll.domain.measure import (
    PROBE_ROWS,
    Measure,
    Measured,
    ProbeRange,
    TierMemory,
    WindowTime,
    answer_problem,
    order_problem,
    rows_for,
    step_s,
)

MODEL, SHARD = ModelId("a" * 64), ShardId("b" * 64)
TIMES = tuple(WindowTime(rows, 0.001 * rows) for rows in PROBE_ROWS)
ORDER = Measure(MODEL, 6, 0, 512, ProbeRange(2, 3, SHARD), ProbeRange(2, 5, SHARD))
ANSWER = Measured(
    model=MODEL,
    engine_build="llama.cpp-b1",
    device="processor",
    threads=1,
    threads_large=2,
    layer_s=TIMES,
    overhead_s=0.002,
    memory=(TierMemory("RAM", "ram", 1, 2),),
    measured_at_s=1.0,
)
NAN, INF = math.nan, math.inf


def with_times(*seconds: float) -> dict[str, Any]:
    return {
        "layer_s": tuple(WindowTime(r, s) for r, s in zip(PROBE_ROWS, seconds, strict=False)),
    }


def test_a_sound_answer_and_order_have_no_problem() -> None:
    assert answer_problem(ANSWER, MODEL, PROBE_ROWS) == ""
    assert order_problem(ORDER) == ""
    assert order_problem(msgspec.structs.replace(ORDER, long=None)) == ""


@pytest.mark.parametrize(
    "changes",
    [
        {"model": ModelId("c" * 64)},
        {"layer_s": ()},
        {"layer_s": TIMES[:-1]},
        {"layer_s": TIMES[::-1]},
        {"layer_s": (*TIMES, WindowTime(512, 1.0))},
        with_times(-1.0, 1.0, 1.0, 1.0, 1.0),
        with_times(0.0, 1.0, 1.0, 1.0, 1.0),
        with_times(NAN, 1.0, 1.0, 1.0, 1.0),
        with_times(1.0, 1.0, 1.0, 1.0, INF),
        with_times(1.0, 1.0, 1.0, 1.0, 1e9),
        with_times(2.0, 1.0, 3.0, 4.0, 5.0),
        {"overhead_s": -1e-9},
        {"overhead_s": NAN},
        {"overhead_s": 1e9},
        {"threads": 0},
        {"threads_large": 1 << 40},
        {"measured_at_s": NAN},
        {"memory": (TierMemory("RAM", "ram", 3, 2),)},
        {"memory": (TierMemory("RAM", "ram", -1, 2),)},
        {"memory": (TierMemory("x" * 300, "ram", 1, 2),)},
        {"memory": (TierMemory("RAM", "ram", 1, 2),) * 65},
        {"device": "x" * 300},
        {"engine_build": "x" * 300},
    ],
)
def test_nonsense_is_known(changes: dict[str, Any]) -> None:
    assert answer_problem(msgspec.structs.replace(ANSWER, **changes), MODEL, PROBE_ROWS)


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "../../etc"},
        {"model": "A" * 64},
        {"short": ProbeRange(2, 3)},
        {"short": ProbeRange(3, 3, SHARD)},
        {"short": ProbeRange(-1, 3, SHARD)},
        {"long": ProbeRange(2, 7, SHARD)},
        {"long": ProbeRange(2, 3, SHARD)},
        {"n_layers": 0},
        {"n_layers": 1 << 40},
        {"rows_max": 0},
        {"data_offset": -1},
    ],
)
def test_an_order_that_cannot_be_followed_is_known(changes: dict[str, Any]) -> None:
    assert order_problem(msgspec.structs.replace(ORDER, **changes))


def test_small_calls_have_fewer_sizes() -> None:
    assert rows_for(512) == PROBE_ROWS
    assert rows_for(63) == (1, 4, 16)
    assert rows_for(1) == (1,)


def test_a_step_between_and_beyond_the_sizes() -> None:
    times = (WindowTime(1, 1.0), WindowTime(3, 2.0))
    assert step_s(times, 0.5, 2, 1) == 2.5
    assert step_s(times, 0.5, 2, 2) == 3.5
    assert step_s(times, 0.5, 2, 6) == 8.5
    assert step_s(times, 0.5, 2, 0.5) == 2.5
    assert step_s(times[:1], 0.0, 1, 4) == 4.0


@given(st.floats(1, 1000), st.floats(0, 100), st.integers(1, 80))
def test_more_rows_or_layers_never_take_less(rows: float, more: float, layers: int) -> None:
    here = step_s(TIMES, 0.1, layers, rows)
    assert here <= step_s(TIMES, 0.1, layers, rows + more) + 1e-12
    assert here < step_s(TIMES, 0.1, layers + 1, rows)
