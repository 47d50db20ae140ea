"""A request goes to the ring that will finish it first."""

from __future__ import annotations

import pytest

from atoll.gateway.routing import Load, Pace, finish_s, first_to_finish, paces
from atoll.plan.report import PlanReport, StageReport

QUICK = Pace(token_s=0.02, busy_s=0.01, row_s=0.001)
SLOW = Pace(token_s=0.1, busy_s=0.05, row_s=0.005)


def load(pace: Pace, active: int = 0, waiting: int = 0, slots: int = 8) -> Load:
    return Load(pace, active, waiting, slots)


def plan(token_ms: float, step_ms: float) -> PlanReport:
    stage = StageReport("reef", 1, 29, step_ms, 0.25, 1, 2)
    return PlanReport(
        *(1, 2048, 100, token_ms, 1e3 / token_ms, token_ms + 200.0, 1.5, 0.1),
        stages=(stage,),
        left_out=(),
        reason="",
        more_of="",
        more_gain=1.0,
        gap=0.0,
    )


def test_the_quicker_ring_until_it_is_busy_enough() -> None:
    chosen = []
    active = [0, 0]
    for _ in range(12):
        ring = first_to_finish([load(SLOW, active[0]), load(QUICK, active[1])], 10, 100)
        active[ring] += 1
        chosen.append(ring)
    # Up to nine or ten streams the quick one's step is no longer than the slow one's.
    assert chosen[:8] == [1] * 8
    assert 0 in chosen


def test_of_equals_the_one_with_fewer_streams() -> None:
    assert first_to_finish([load(QUICK, 1), load(QUICK, 0)], 10, 100) == 1
    assert first_to_finish([load(QUICK), load(QUICK)], 10, 100) == 0
    with pytest.raises(ValueError, match="empty"):
        first_to_finish([], 1, 1)


def test_a_line_is_waited_for() -> None:
    free, full = load(SLOW, 0), load(QUICK, 2, 8, slots=2)
    assert finish_s(full, 10, 100) > finish_s(load(QUICK, 2, slots=2), 10, 100)
    assert first_to_finish([full, free], 10, 100) == 1


def test_long_prompts_count() -> None:
    reads_well = Pace(token_s=0.03, busy_s=0.015, row_s=0.0001)
    assert first_to_finish([load(QUICK), load(reads_well)], 4000, 10) == 1
    assert first_to_finish([load(QUICK), load(reads_well)], 10, 100) == 0


def test_a_conversation_goes_on_where_its_caches_are() -> None:
    warm = Load(QUICK, 1, 0, 8, cached=900)
    assert first_to_finish([load(QUICK), warm], 1000, 10) == 1
    # Unless waiting for it takes longer than computing it anew.
    busy = Load(QUICK, 8, 9, 8, cached=900)
    assert first_to_finish([load(QUICK), busy], 1000, 200) == 0


def test_what_was_foretold_is_corrected_by_what_was_measured() -> None:
    foretold, slower = paces([(plan(20.0, 12.0), None), (plan(20.0, 12.0), 0.04)])
    assert (foretold.token_s, foretold.busy_s) == (0.02, 0.012)
    assert (slower.token_s, slower.busy_s) == (0.04, 0.024)
    assert foretold.row_s == pytest.approx(0.002)
    assert slower.row_s == pytest.approx(0.004)


def test_a_ring_of_which_nothing_is_known_is_tried() -> None:
    assert [pace.token_s for pace in paces([(None, 0.04), (None, None), (None, 0.03)])] == [
        *(0.04, 0.03, 0.03)
    ]
    one, other = paces([(None, None), (None, None)])
    assert one == other
