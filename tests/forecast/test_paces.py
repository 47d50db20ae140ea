"""A step's time taken apart."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from atoll.forecast.models import shipped_models
from atoll.forecast.paces import Pace

SHAPE = shipped_models().shapes.find("Llama-3.1-8B")


def pace(
    *, flights: int = 1, slowest_s: Callable[[int], float] | None = None, fill_s: float = 0.0
) -> Pace:
    return Pace(
        shape=SHAPE,
        fixed_s=lambda streams: 0.01 + 0.001 * streams,
        position_s=1e-9,
        operation_s=1e-14,
        chunk=(512, 256),
        room=1e6,
        streams_max=8,
        first_s=0.1,
        fill_s=fill_s,
        flights=flights,
        slowest_s=slowest_s,
    )


def test_steps_and_caches() -> None:
    server = pace()
    assert server.step_s(0) == 0.0
    assert server.step_s(3) == server.step_s(3) == pytest.approx(0.013)
    assert server.caches_s(0, 0.0) == 0.0
    assert server.caches_s(2, 1000) == pytest.approx(1000 * 32 * 1e-9)
    assert server.works_s(2, 1000) == server.step_s(2) + server.caches_s(2, 1000)


def test_flights_read_caches_beside_each_other() -> None:
    ring = pace(flights=4, slowest_s=lambda streams: 0.002 * streams)
    assert ring.caches_s(1, 500) == pace().caches_s(1, 500)
    assert ring.caches_s(8, 4000) == pytest.approx(pace().caches_s(8, 4000) / 4)
    assert ring.works_s(2, 1000) == pytest.approx(0.004 + ring.caches_s(2, 1000))


def test_later_positions_of_a_prompt_look_back_at_more() -> None:
    server = pace()
    first, second = server.prompt_s(500), server.prompt_s(500, 500)
    assert second > first
    assert first + second == pytest.approx(server.prompt_s(1000), rel=1e-3)


def test_a_prompt_s_last_window_passes_the_other_machines() -> None:
    assert pace().way_s(10_000) == 0.1
    ring = pace(flights=2, fill_s=1e-3)
    assert ring.way_s(50) == pytest.approx(0.1 + 0.05)
    assert ring.way_s(10_000) == pytest.approx(0.1 + 0.256)
    assert ring.way_s(10_000, streams=3) == pytest.approx(0.1 + 0.128)
