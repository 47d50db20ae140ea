"""One stream on one machine: bytes over bandwidth, and a constant for each layer."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from atoll.forecast.constants import Constants, shipped_fit
from atoll.forecast.decode import (
    COMPUTE,
    EAGER_S,
    EFFICIENCY,
    EXPERT_LAYERS,
    LAYER_S,
    LOOSE,
    MEMORY,
    THREAD_S,
    UNPACKING,
    DecodeRun,
    memory_class,
    prompt_s,
    rows_s,
    token_s,
)
from atoll.forecast.devices import Timing, shipped_devices
from atoll.forecast.models import shipped_models

BARE = Constants()
SHAPE = shipped_models().shapes.find("Llama-2-7B")
RUN = DecodeRun(SHAPE, shipped_devices().find("RTX 3090"), 8.0, "cuda")


def test_by_hand() -> None:
    assert token_s(RUN, BARE) == pytest.approx(
        32 * LAYER_S.value + SHAPE.active_params / (936e9 * EFFICIENCY.value)
    )


def test_caches_are_read_too() -> None:
    longer = token_s(replace(RUN, context=1000), BARE) - token_s(RUN, BARE)
    assert longer == pytest.approx(2 * 32 * 128 * 2 * 32 * 1000 / (936e9 * EFFICIENCY.value))


def test_two_machines_read_half_each() -> None:
    layers_s = 32 * LAYER_S.value
    half = token_s(replace(RUN, machines=2), BARE) - layers_s
    assert half == pytest.approx((token_s(RUN, BARE) - layers_s) / 2)


def test_rows_of_others_come_along() -> None:
    run = replace(RUN, context=1000)
    one, nine = rows_s(run, 1, BARE), rows_s(run, 9, BARE)
    assert one == token_s(run, BARE)
    cached_s = 8 * 2 * 32 * 128 * 2 * 32 * 1000 / (936e9 * EFFICIENCY.value)
    assert nine == pytest.approx(one + cached_s + prompt_s(run, 8, BARE))
    # Weights are read once for all, but for experts that nobody else woke.
    assert nine < 3 * one
    some = replace(run, shape=shipped_models().shapes.find("Qwen3-30B-A3B"))
    assert rows_s(some, 9, BARE) > 2 * rows_s(some, 1, BARE)


def test_prompts() -> None:
    card = shipped_devices().find("RTX 3090")
    flops = 512 * SHAPE.token_flops(256)
    assert prompt_s(RUN, 512, BARE) == pytest.approx(flops / (card.flops["fp16"] * COMPUTE.value))
    # What nobody has published is not made up.
    pi = shipped_devices().find("Raspberry Pi 4B")
    assert prompt_s(replace(RUN, device=pi, runtime="cpu"), 512, BARE) == 0


def test_an_interpreter_starts_every_operation() -> None:
    slower = token_s(replace(RUN, eager=True), BARE) - token_s(RUN, BARE)
    assert slower == pytest.approx(32 * (EAGER_S.value - LAYER_S.value))


def test_experts_cost_layers_more() -> None:
    shape = shipped_models().shapes.find("gpt-oss-20b")
    got = token_s(replace(RUN, shape=shape), BARE)
    weights_s = shape.active_params / (936e9 * EFFICIENCY.value)
    assert got == pytest.approx(24 * LAYER_S.value * EXPERT_LAYERS.value + weights_s)


def test_kernels_that_differ_have_their_own_constant() -> None:
    card = shipped_devices().find("Intel Arc A770")
    got = token_s(replace(RUN, device=card, runtime="vulkan"), BARE)
    assert got == pytest.approx(
        32 * LAYER_S.value + SHAPE.active_params / (card.bandwidth * LOOSE.value)
    )


def test_processors_unpack_what_they_have_read_and_wait_for_each_other() -> None:
    pi = shipped_devices().find("Raspberry Pi 5")
    run = replace(RUN, device=pi, runtime="cpu", bits=4.5)
    weights = SHAPE.active_params * 4.5 / 8
    reading_s = weights / (17.07e9 * MEMORY.value)
    unpacking_s = SHAPE.active_params / (0.614e12 / 2 * UNPACKING.value)
    layer_s = LAYER_S.value + 4 * THREAD_S.value
    assert token_s(run, BARE) == pytest.approx(32 * layer_s + reading_s + unpacking_s)
    # Nothing is made up where cores and what they compute are not known.
    unknown = msgspec.structs.replace(pi, cores=0, flops={})
    got = token_s(replace(run, device=unknown), BARE)
    assert got == pytest.approx(32 * LAYER_S.value + reading_s)
    # GPUs have neither term, whatever they compute in eight bits.
    card = msgspec.structs.replace(RUN.device, cores=80, flops={**RUN.device.flops, "int8": 1e12})
    assert token_s(replace(RUN, device=card), BARE) == token_s(RUN, BARE)


def test_a_small_model_gains_nothing_from_two_hundred_cores() -> None:
    """Ollama on an AmpereOne with 192 cores: 23.5 tokens a second of Llama 3.2 3B, which is a
    seventh of its memory's bandwidth, and 0.9 of Llama 3.1 405B, two thirds.
    """
    shapes, device = shipped_models().shapes, shipped_devices().find("AmpereOne A192-32X")
    for name, measured in (("Llama-3.2-3B", 23.52), ("Llama-3.1-405B", 0.9)):
        run = DecodeRun(shapes.find(name), device, 4.85, "cpu", "q4_k_m", "ollama")
        assert 1 / token_s(run, shipped_fit().constants) == pytest.approx(measured, rel=0.2)


def test_a_measured_machine_is_forecast_as_it_was_measured() -> None:
    card = msgspec.structs.replace(RUN.device, timing=Timing(0.1e-3, 1e-3, 8.0))
    run = replace(RUN, device=card, eager=True, stack="ollama", format="q8_0")
    seconds = 32 * 0.1e-3 + SHAPE.active_params / 936e9
    assert token_s(run, BARE) == pytest.approx(seconds)
    flops = 512 * SHAPE.token_flops(256)
    assert prompt_s(run, 512, BARE) == pytest.approx(flops / card.flops["fp16"])
    seen: dict[str, float] = {}
    assert rows_s(run, 4, Constants(shipped_fit().factors, seen)) == rows_s(run, 4, BARE)
    # No constant of a dense model was so much as asked for.
    assert seen == {}
    # Half of what a weight takes stays the same with half as many bits.
    narrow = replace(run, bits=4.0)
    half = msgspec.structs.replace(card, timing=Timing(0.0, 0.0, 8.0, unpacking=0.5))
    weights_s = SHAPE.active_params / 936e9
    assert token_s(replace(narrow, device=half), BARE) == pytest.approx(0.75 * weights_s)
    experts = replace(run, shape=shipped_models().shapes.find("gpt-oss-20b"))
    weights_s = experts.shape.active_params / 936e9
    assert token_s(experts, BARE) == pytest.approx(24 * 0.1e-3 * EXPERT_LAYERS.value + weights_s)


@pytest.mark.parametrize(
    ("name", "kind"), [("H100 SXM", "HBM"), ("RTX 3090", "GDDR"), ("Apple M3 Ultra", "LPDDR")]
)
def test_kinds_of_memory(name: str, kind: str) -> None:
    assert memory_class(shipped_devices().find(name)) == kind


def test_with_what_was_fitted_it_is_what_was_measured() -> None:
    """llama.cpp discussion #4167: M2 Ultra, LLaMA 7B, F16: 41.02 tokens a second."""
    run = DecodeRun(
        *(SHAPE, shipped_devices().find("Apple M2 Ultra (76c)"), 16.0, "metal"), format="f16"
    )
    assert 1 / token_s(run, shipped_fit().constants) == pytest.approx(41.0, rel=0.1)
