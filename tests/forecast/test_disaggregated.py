"""Prompts on some machines, answers on others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from atoll.domain.errors import BadRequest
from atoll.forecast.compare import Forecast, forecast
from atoll.forecast.constants import shipped_fit
from atoll.forecast.devices import shipped_devices
from atoll.forecast.fleet_file import Fleet, parse_fleet_file
from atoll.forecast.models import shipped_models
from atoll.forecast.outlook import Workload
from atoll.forecast.systems import systems_of
from atoll.forecast.targets import Target

WORK = Workload(shipped_models().shapes.find("Llama-3.1-70B"), 8.0, 2000.0, 250.0)
FREE = Target()
BOUND = Target(tpot_s=0.03)


def fleet(prompts: int, answers: int, handover: str = "") -> Fleet:
    rate = f"handover = '{handover}'\n" if handover else ""
    text = (
        f"{rate}[[parts]]\nfleet = '8 x H100 SXM'\nrole = 'prefill'\ncount = {prompts}\n"
        f"[[parts]]\nfleet = '8 x H100 SXM'\nrole = 'decode'\ncount = {answers}"
    )
    return parse_fleet_file(text, shipped_devices(), source="f")


def of(one: Fleet, target: Target = FREE, work: Workload = WORK) -> Forecast:
    return forecast(one, work, target, shipped_fit())


def test_what_is_scarce_bounds_all() -> None:
    few, many = of(fleet(1, 8), BOUND), of(fleet(40, 8), Target(tpot_s=0.02))
    assert few.limit is not None
    assert many.limit is not None
    assert (few.limit.bound, many.limit.bound) == ("prompts", "tpot")
    part = fleet(1, 8).parts[0]
    pace = systems_of(part, WORK, shipped_fit().constants).pace
    assert few.tokens_per_s == pytest.approx(WORK.answer / pace.prompt_s(WORK.prompt))
    assert f"keep up with {few.tokens_per_s:,.0f} tokens/s" in few.limit.figure
    assert many.tokens_per_s > few.tokens_per_s
    assert few.streams == pytest.approx(few.tokens_per_s * few.loaded_s)


def test_those_that_answer_are_not_held_up_by_prompts() -> None:
    apart = of(fleet(20, 1), BOUND)
    text = "[[parts]]\nfleet = '8 x H100 SXM'"
    together = of(parse_fleet_file(text, shipped_devices(), source="f"), BOUND)
    assert apart.tokens_per_s > 1.5 * together.tokens_per_s
    assert apart.loaded_s <= BOUND.tpot_s


def test_machines_draw_and_cost_as_all_of_them() -> None:
    found, one = of(fleet(2, 3)), of(fleet(1, 1))
    assert found.watts == pytest.approx(2.5 * one.watts)
    assert found.hourly == pytest.approx(2.5 * one.hourly)


def test_caches_take_their_time_to_be_handed_over() -> None:
    seconds = 2000 * 80 * 2 * 8 * 128 * 2 / 50e9
    notes = of(fleet(1, 1, "50 GB/s")).notes
    assert f"handed over in {seconds:.3g} s" in notes[0]
    assert "handed over in 0 s" in of(fleet(1, 1)).notes[0]


def test_a_target_that_nobody_meets() -> None:
    none = of(fleet(1, 1), Target(tpot_s=1e-4))
    assert (none.streams, none.tokens_per_s) == (0, 0.0)
    assert any("longer than the" in note for note in none.notes)
    late = of(fleet(1, 1), Target(ttft_s=1e-4))
    assert late.limit is not None
    assert late.limit.bound == "ttft"


def test_prompts_on_machines_of_which_nothing_is_known() -> None:
    text = (
        "[[parts]]\nfleet = '9 x Google TPU 8i (inference) @ 1 us'\nrole = 'prefill'\n"
        "[[parts]]\nfleet = '8 x H100 SXM'\nrole = 'decode'"
    )
    with pytest.raises(BadRequest, match="computes in a second is not published"):
        of(parse_fleet_file(text, shipped_devices(), source="f"))


def test_memory_schedulers_and_what_is_known() -> None:
    assert (limit := of(fleet(20, 1), BOUND).limit) is not None
    assert limit.bound == "known"
    assert (limit := of(fleet(50, 1)).limit) is not None
    assert limit.bound == "memory"
    assert (limit := of(fleet(50, 1), work=replace(WORK, prompt=50.0, answer=50.0)).limit)
    assert limit.bound == "scheduler"
