"""Servers' paces are what their cost models say."""

from __future__ import annotations

import pytest

from atoll.forecast import lpu, saturated, serving
from atoll.forecast.constants import shipped_fit
from atoll.forecast.devices import shipped_devices
from atoll.forecast.models import shipped_models
from atoll.forecast.server_paces import TUNED, lpu_pace, server_pace

SHAPE = shipped_models().shapes.find("Llama-3.1-70B")
H100 = shipped_devices().find("H100 SXM")
CONSTANTS = shipped_fit().constants


def test_a_server_that_serves() -> None:
    pace = server_pace(SHAPE, H100, 8, 8.0, CONSTANTS)
    load = serving.Load(16, 1000, 200)
    server = serving.Server(SHAPE, H100, 8, 8.0)
    assert pace.step_s(16) + pace.caches_s(16, 16 * 1100) == pytest.approx(
        serving.step_s(server, load, CONSTANTS)
    )
    assert pace.prompt_s(1000) == pytest.approx(serving.prompt_s(server, load, CONSTANTS))
    # Half precision caches of 80 layers, in what 70 GB of weights leave.
    free = 8 * H100.memory * 0.9 - SHAPE.total_params
    assert pace.room == pytest.approx(free / (2 * 8 * 128 * 2))
    busy, idle = pace.watts
    assert busy > idle > 0
    assert pace.hourly > 0


def test_a_tuned_server_at_full_load_is_as_fast_as_its_model_says() -> None:
    lengths = (1000.0, 500.0)
    pace = server_pace(SHAPE, H100, 8, 8.0, CONSTANTS, software="tuned", lengths=lengths)
    run = saturated.SaturatedRun(SHAPE, H100, 8, 8.0, 8.0, *lengths, TUNED)
    streams = int(saturated.streams(run, CONSTANTS))
    step_s = pace.step_s(streams) + pace.caches_s(streams, streams * 1250)
    step_s += streams / 500 * pace.prompt_s(1000)
    assert streams / step_s == pytest.approx(saturated.tokens_per_s(run, CONSTANTS), rel=0.01)


def test_chips_with_a_schedule_take_the_same_time_whatever_they_hold() -> None:
    chip = shipped_devices().find("Groq LPU v1")
    pace = lpu_pace(SHAPE, chip, 576, CONSTANTS)
    assert pace.step_s(1) == pace.step_s(7) == lpu.token_s(SHAPE, CONSTANTS)
    assert pace.caches_s(7, 1e6) == pace.prompt_s(1000) == 0.0
    assert pace.way_s(1000) + pace.step_s(1) == pytest.approx(lpu.first_token_s(CONSTANTS))
