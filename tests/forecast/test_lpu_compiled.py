"""Times of compiled schedules, found by a model's shape."""

from __future__ import annotations

import msgspec
import pytest

from atoll.forecast.constants import shipped_fit
from atoll.forecast.devices import shipped_devices
from atoll.forecast.lpu import token_s
from atoll.forecast.lpu_compiled import (
    compilable,
    compiled_time,
    schedule_note,
    shipped_times,
)
from atoll.forecast.models import shipped_models

SHAPES = shipped_models().shapes
TSP = shipped_devices().find("Groq LPU v1")
LP30 = shipped_devices().find("LP30")


def test_a_time_is_of_a_shape_whatever_its_name() -> None:
    shape = SHAPES.find("Llama-2-70B")
    found = compiled_time(shape, TSP)
    assert found is not None
    assert found.model == "Llama-2-70B"
    assert compiled_time(msgspec.structs.replace(shape, name="mine"), TSP) == found
    assert compiled_time(msgspec.structs.replace(shape, layers=79), TSP) is None
    assert compiled_time(shape, LP30) is None
    assert schedule_note(shape, LP30) == ()


def test_only_models_of_a_kind_are_compiled() -> None:
    for name in ("Mixtral-8x7B", "Gemma-3-27B", "BLOOM-176B", "DeepSeek-V3-671B"):
        assert not compilable(SHAPES.find(name))
        assert compiled_time(SHAPES.find(name), TSP) is None
    experts = msgspec.structs.replace(SHAPES.find("Llama-2-70B"), experts=8)
    assert compiled_time(experts, TSP) is None


def test_figures_hang_together() -> None:
    times = shipped_times().times
    assert len(times) > 15
    for time in times:
        layers = time.layers * time.layer_cycles
        assert layers + time.hand_over_cycles < time.token_cycles
        assert time.token_s == pytest.approx(time.token_cycles / 900e6, rel=1e-5)
        assert time.chips % time.width == time.kv_heads % time.width == 0


@pytest.mark.parametrize("name", ["Llama-3.1-8B", "Llama-3.1-70B", "Llama-2-70B"])
def test_a_service_is_slower_than_a_schedule(name: str) -> None:
    shape = SHAPES.find(name)
    found = compiled_time(shape, TSP)
    assert found is not None
    assert found.token_s < token_s(shape, shipped_fit().constants) < found.token_s + 1e-3


def test_the_note() -> None:
    found = compiled_time(SHAPES.find("Llama-2-70B"), TSP)
    assert found is not None
    (note,) = schedule_note(SHAPES.find("Llama-2-70B"), TSP)
    assert f"{1e3 * found.token_s:.3g} ms a token, on {found.chips} chips" in note
