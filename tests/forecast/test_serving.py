"""What users of a server see: tokens wait for steps, steps for collectives and prompts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from atoll.forecast.constants import Constants
from atoll.forecast.devices import shipped_devices
from atoll.forecast.models import shipped_models
from atoll.forecast.serving import (
    COLLECTIVE,
    COMPUTE,
    FIRST_S,
    LAYER_S,
    MEMORY,
    Load,
    Server,
    prompt_s,
    step_s,
    tpot_s,
    ttft_s,
)
from atoll.forecast.wires import shipped_wires

BARE = Constants()
SHAPE = shipped_models().shapes.find("Llama-3.1-8B")
H100 = shipped_devices().find("H100 SXM")
ONE = Server(SHAPE, H100, 1, 16.0)
LOAD = Load(8, 1000, 200)


def test_a_step_by_hand() -> None:
    read = 2 * SHAPE.woken_params(8) + 8 * 2 * 8 * 128 * 2 * 32 * 1100
    assert step_s(ONE, LOAD, BARE) == pytest.approx(
        32 * LAYER_S.value + read / (H100.bandwidth * MEMORY.value)
    )


def test_split_matrices_wait_for_each_other() -> None:
    two = step_s(replace(ONE, n=2), LOAD, BARE)
    once = shipped_wires().all_reduce_s("NVIDIA H100 SXM", 2, 8 * 4096 * 2)
    assert once is not None
    layers_s = 32 * LAYER_S.value
    halved = layers_s + (step_s(ONE, LOAD, BARE) - layers_s) / 2
    assert two == pytest.approx(halved + 64 * once * COLLECTIVE.value)
    # What was not measured gets the usual times, not none.
    tpu = shipped_devices().find("TPU v6e")
    apart = [step_s(Server(SHAPE, tpu, n, 16.0), LOAD, BARE) for n in (1, 8)]
    assert apart[1] > layers_s + (apart[0] - layers_s) / 8


def test_prompts() -> None:
    seconds = prompt_s(ONE, LOAD, BARE)
    assert seconds == pytest.approx(
        1000 * SHAPE.token_flops(500) / (H100.flops["fp16"] * COMPUTE.value)
    )
    assert ttft_s(ONE, LOAD, BARE) == pytest.approx(
        FIRST_S.value + step_s(ONE, LOAD, BARE) / 2 + seconds
    )
    # Each stream's 200 tokens come with one prompt of every other.
    assert tpot_s(ONE, LOAD, BARE) == pytest.approx(step_s(ONE, LOAD, BARE) + 8 * seconds / 200)
