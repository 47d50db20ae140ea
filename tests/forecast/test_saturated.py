"""Servers at full load: what more of each resource brings, and where it ends."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from atoll.forecast.constants import Constants, shipped_fit
from atoll.forecast.devices import shipped_devices
from atoll.forecast.models import shipped_models
from atoll.forecast.saturated import (
    BATCH,
    USABLE,
    SaturatedRun,
    room_streams,
    software_streams,
    stream_bytes,
    streams,
    tokens_per_s,
)

BARE = Constants()
SHAPE = shipped_models().shapes.find("Llama-3.1-70B")
H100 = shipped_devices().find("H100 SXM")
RUN = SaturatedRun(SHAPE, H100, 8, 8.0, 8.0, 1000.0, 1000.0, "TensorRT-LLM")


def test_streams_by_memory() -> None:
    cached = 2 * 8 * 128 * 80 * 1500
    room = 8 * H100.memory * USABLE - SHAPE.total_params
    assert streams(RUN, BARE) == pytest.approx(1 / (cached / room + 1 / (8 * BATCH.value)))
    full = replace(RUN, n=1)
    # No room beside the weights: one stream, and not none.
    assert streams(replace(full, bits=16.0), BARE) == pytest.approx(1.0, rel=0.01)
    assert room_streams(RUN) == pytest.approx(room / cached)
    assert room_streams(replace(full, bits=16.0)) < 0
    assert stream_bytes(RUN) == cached
    assert software_streams(RUN, BARE) == pytest.approx(8 * BATCH.value)


def test_more_of_each_brings_more() -> None:
    usual = tokens_per_s(RUN, BARE)
    wider = msgspec.structs.replace(H100, bandwidth=2 * H100.bandwidth)
    stronger = msgspec.structs.replace(H100, flops={k: 2 * v for k, v in H100.flops.items()})
    for better in (
        replace(RUN, device=wider),
        replace(RUN, device=stronger),
        replace(RUN, prompt=100.0),
        replace(RUN, bits=4.5, kv_bits=4.0),
        replace(RUN, n=16),
    ):
        assert tokens_per_s(better, BARE) > usual * 1.05


def test_it_stays_below_what_the_chips_can_compute() -> None:
    most = 8 * H100.flops["fp8"] / (2 * SHAPE.active_params)
    assert tokens_per_s(replace(RUN, prompt=1.0, answer=10_000.0), BARE) < most


def test_experts_at_every_device_hold_attention_many_times() -> None:
    shape = shipped_models().shapes.find("DeepSeek-R1")
    spread = replace(RUN, shape=shape, device=shipped_devices().find("H200 SXM"))
    assert streams(replace(spread, layout="DEP8"), BARE) < streams(spread, BARE)


def test_with_what_was_fitted_it_is_near_what_was_measured() -> None:
    """MLPerf v4.1, eight H100 SXM, Llama 2 70B offline: 24,525 tokens a second."""
    run = replace(
        RUN,
        shape=shipped_models().shapes.find("Llama-2-70B"),
        prompt=294.0,
        answer=294.45,
        stack="MLPerf",
    )
    assert tokens_per_s(run, shipped_fit().constants) == pytest.approx(24_525, rel=0.3)
