"""Servers: which bound they meet first, and that the next stream is what breaks it."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from atoll.forecast.constants import shipped_fit
from atoll.forecast.devices import shipped_devices
from atoll.forecast.fleets import parse_fleet_line
from atoll.forecast.models import shipped_models
from atoll.forecast.outlook import Outlook, Workload
from atoll.forecast.saturated import USABLE
from atoll.forecast.servers import SEEN_STREAMS, STREAMS_MAX, server_outlook
from atoll.forecast.targets import Target

SHAPES = shipped_models().shapes
LARGE = Workload(SHAPES.find("Llama-3.1-70B"), 4.5, 500.0, 250.0)
SMALL = replace(LARGE, shape=SHAPES.find("Llama-3.1-8B"))


def of(line: str, work: Workload, target: Target) -> Outlook:
    return server_outlook(parse_fleet_line(line, shipped_devices()), work, target, shipped_fit())


def figure(outlook: Outlook, bound: str) -> str:
    assert outlook.limit is not None
    assert outlook.limit.bound == bound
    return outlook.limit.figure


def test_the_time_per_token() -> None:
    target = Target(tpot_s=0.04)
    outlook = of("8xh100", LARGE, target)
    assert outlook.loaded_s <= 0.04
    said = figure(outlook, "tpot")
    assert f"with {outlook.streams + 1:,} streams, longer than the 40 ms" in said
    took = re.search(r"takes ([\d.]+) ms", said)
    assert took is not None
    assert 40 < float(took[1]) < 40.2
    # What the next stream takes is more than was asked for; with a little more time it fits.
    more = of("8xh100", LARGE, Target(tpot_s=float(took[1]) / 1e3 * 1.0001))
    assert more.streams > outlook.streams


def test_the_time_to_the_first_token() -> None:
    alone = of("8xh100", LARGE, Target(ttft_s=10.0))
    outlook = of("8xh100", LARGE, Target(ttft_s=alone.first_s * 1.2))
    assert 1 < outlook.streams < alone.streams
    assert f"with {outlook.streams + 1:,} streams" in figure(outlook, "ttft")


def test_not_even_one_stream() -> None:
    outlook = of("8xh100", LARGE, Target(ttft_s=1e-3))
    assert outlook.streams == 0
    assert "with 1 stream, longer than the 0.001 s" in figure(outlook, "ttft")
    assert figure(outlook, "ttft") in outlook.notes


def test_memory_within_a_target() -> None:
    long = replace(LARGE, prompt=2000.0)
    outlook = of("2 x H100 SXM", long, Target(tpot_s=10.0))
    said = figure(outlook, "memory")
    h100 = shipped_devices().find("H100 SXM")
    free = 2 * h100.memory * USABLE - long.weights
    assert outlook.streams == int(free / long.cached)
    assert said == f"{free / 2**30:,.1f} GiB for caches, full with {outlook.streams:,} streams"


def test_no_more_than_at_full_load() -> None:
    free = of("8xh100", LARGE, Target())
    outlook = of("8xh100", LARGE, Target(tpot_s=0.3))
    most_rate = free.streams / free.loaded_s
    assert outlook.streams / outlook.loaded_s <= most_rate * 1.001
    assert f"at full load it gives {most_rate:,.0f}"[:24] in figure(outlook, "known")
    assert of("8xh100", LARGE, Target(tpot_s=0.03)).streams < outlook.streams


def test_as_far_as_is_forecast() -> None:
    outlook = of("8xh100", SMALL, Target(tpot_s=10.0))
    assert outlook.streams == STREAMS_MAX
    assert "4,096" in figure(outlook, "known")
    assert f"results are known of up to {SEEN_STREAMS} streams" in outlook.notes


def test_memory_at_full_load() -> None:
    outlook = of("8xh100", LARGE, Target())
    found = re.search(
        r"GiB for caches, full with ([\d,]+) streams; fewer", figure(outlook, "memory")
    )
    assert found is not None
    # Streams come and go: there are never quite as many as there is room for.
    assert outlook.streams < int(found[1].replace(",", "")) < 3 * outlook.streams


def test_software_at_full_load() -> None:
    outlook = of("8xb200", SMALL, Target())
    found = re.match(r"a scheduler takes ([\d,]+) streams", figure(outlook, "scheduler"))
    assert found is not None
    assert outlook.streams < int(found[1].replace(",", ""))


@pytest.mark.parametrize("target", [Target(), Target(tpot_s=10.0)])
def test_caches_that_do_not_fit(target: Target) -> None:
    """A prompt of ten million tokens: the model fits, and no stream of it."""
    outlook = of("2 x H100 SXM", replace(LARGE, prompt=1e7), target)
    assert outlook.streams == 0
    assert "and those of a stream take" in figure(outlook, "memory")
    assert figure(outlook, "memory") in outlook.notes


def test_errors_are_of_what_was_forecast() -> None:
    errors = shipped_fit().errors
    full, within = of("8xh100", LARGE, Target()), of("8xh100", LARGE, Target(tpot_s=0.05))
    assert (full.alone_error, full.error) == (errors["serving_tpot"], errors["throughput"])
    assert (within.alone_error, within.error) == (errors["serving_tpot"], errors["serving_tpot"])
    assert full.power_error == errors["power"]
