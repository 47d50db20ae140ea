"""Rings' paces: layers by speed and memory, flights, windows of prompts."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from atoll.domain.errors import BadRequest
from atoll.forecast.constants import shipped_fit
from atoll.forecast.decode import prompt_s, rows_s, token_s
from atoll.forecast.devices import shipped_devices
from atoll.forecast.drafts import Drafts
from atoll.forecast.models import shipped_models
from atoll.forecast.ring_paces import Ring, read_rate, ring_pace, share_layers, smallest_ring
from atoll.forecast.spread import pipeline_s

SHAPE = shipped_models().shapes.find("Llama-3.1-70B")
DEVICES = shipped_devices()
CARD = DEVICES.find("RTX 4090")
SMALL = DEVICES.find("NVIDIA RTX 3060 12GB")
CONSTANTS = shipped_fit().constants
TWO = Ring(SHAPE, (CARD, CARD), 4.85, (0.02, 0.02))


def test_a_stream_alone_takes_what_a_pipeline_takes() -> None:
    pace = ring_pace(TWO, CONSTANTS)
    alone_s = pipeline_s(TWO.run(CARD), TWO.ways_s, "Atoll", CONSTANTS)
    assert pace.step_s(1) == pytest.approx(alone_s)
    assert pace.slowest_s is not None
    assert pace.slowest_s(1) == pytest.approx(token_s(TWO.run(CARD), CONSTANTS) / 2)


def test_many_streams_wait_for_the_slowest_machine() -> None:
    pace = ring_pace(replace(TWO, ways_s=(1e-4, 1e-4)), CONSTANTS)
    flights_s = 3 * rows_s(TWO.run(CARD), 30, CONSTANTS) / 2
    assert pace.step_s(90) == pytest.approx(flights_s)
    assert pace.works_s(90, 0.0) == pytest.approx(flights_s)
    # Far apart they do not: three flights are computed within one lap.
    assert ring_pace(TWO, CONSTANTS).works_s(3, 0.0) < pace.step_s(3) + 0.04


def test_prompts_are_computed_by_all_machines_at_once() -> None:
    pace = ring_pace(TWO, CONSTANTS)
    assert pace.prompt_s(500) == pytest.approx(prompt_s(TWO.run(CARD), 500, CONSTANTS) / 2)
    # The last window passes the other machine, too.
    assert pace.way_s(100) - pace.first_s == pytest.approx(pace.prompt_s(100), rel=0.01)


def test_faster_machines_get_more_layers_as_far_as_they_have_memory() -> None:
    fast = msgspec.structs.replace(CARD, memory=40e9)
    layers = share_layers(Ring(SHAPE, (fast, fast, SMALL), 4.85, (0.0,) * 3), CONSTANTS)
    assert sum(layers) == 80
    assert layers[0] == layers[1] > 2 * layers[2] > 0
    tight = msgspec.structs.replace(CARD, memory=18e9)
    crowded = share_layers(Ring(SHAPE, (tight, tight, SMALL), 4.85, (0.0,) * 3), CONSTANTS)
    assert crowded[0] == crowded[1] == int(18e9 * 0.9 / (SHAPE.total_params * 4.85 / 8 / 80))
    assert crowded[2] == 80 - 2 * crowded[0]
    with pytest.raises(BadRequest, match="of 80 layers"):
        share_layers(Ring(SHAPE, (SMALL, SMALL), 4.85, (0.0, 0.0)), CONSTANTS)


def test_the_smallest_ring() -> None:
    assert smallest_ring(SHAPE, SMALL, 4.85, 750) == 4
    assert smallest_ring(SHAPE, DEVICES.find("H200"), 4.85, 750) == 1
    # Long prompts take more room than weights alone leave.
    assert smallest_ring(SHAPE, CARD, 4.5, 750) == 2
    assert smallest_ring(SHAPE, CARD, 4.5, 60_000) == 3
    with pytest.raises(BadRequest, match="cannot hold a layer"):
        smallest_ring(SHAPE, DEVICES.find("Groq LPU v1"), 16.0, 750)


def test_drafts_make_passes_longer_and_worth_more() -> None:
    plain = ring_pace(TWO, CONSTANTS)
    drafts = Drafts(4, 0.8, 0.002)
    guessing = ring_pace(TWO, CONSTANTS, drafts=drafts)
    assert guessing.tokens == drafts.tokens > 3
    longer_s = rows_s(TWO.run(CARD), 5, CONSTANTS) - rows_s(TWO.run(CARD), 1, CONSTANTS)
    assert guessing.step_s(1) == pytest.approx(plain.step_s(1) + longer_s + 4 * 0.002)


def test_room_is_what_the_fullest_machine_has() -> None:
    pace = ring_pace(TWO, CONSTANTS)
    free = 2 * CARD.memory * 0.9 - SHAPE.total_params * 4.85 / 8
    assert pace.room == pytest.approx(free / (2 * 8 * 128 * 2), rel=1e-6)


def test_reading_more_takes_longer_by_the_rate() -> None:
    run = TWO.run(CARD)
    longer = replace(run, context=1000.0)
    more = token_s(longer, CONSTANTS) - token_s(run, CONSTANTS)
    assert more == pytest.approx(2 * 8 * 128 * 2 * 80 * 1000 / read_rate(run, CONSTANTS), rel=1e-6)
