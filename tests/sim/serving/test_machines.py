"""The system's own machines beside the shortcut that stands for them."""

from __future__ import annotations

import pytest

from atoll.forecast.constants import shipped_fit
from atoll.forecast.devices import shipped_devices
from atoll.forecast.models import shipped_models
from atoll.forecast.ring_paces import WINDOW, Ring, ring_pace
from atoll.ring.coordinator_config import BESIDE_ROWS, CHUNK_ROWS
from atoll.sim.serving.arrivals import Arrivals, arrive
from atoll.sim.serving.machines import run_machines
from atoll.sim.serving.pools import Pool
from atoll.sim.serving.replica import Replica
from atoll.sim.serving.requests import Request
from atoll.sim.serving.run import ServingRun
from atoll.sim.serving.tally import Tally, spread_of

CONSTANTS = shipped_fit().constants
DEVICES = shipped_devices()
SHAPES = shipped_models().shapes


def ring_of(n: int, device: str, model: str, bits: float, way_s: float) -> Ring:
    return Ring(SHAPES.find(model), (DEVICES.find(device),) * n, bits, (way_s,) * n)


def shortcut(ring: Ring, requests: list[Request]) -> Tally:
    pace = ring_pace(ring, CONSTANTS)
    return ServingRun([Pool("ring", [Replica(pace)], len(ring.devices))], requests).run()


def test_one_request_alone_is_the_same() -> None:
    ring = ring_of(4, "NVIDIA RTX 3060 12GB", "Llama-3.1-70B", 4.85, 0.02)
    for prompt in (100, 256, 500):
        requests = [Request(1.0, prompt, 20)]
        real, short = run_machines(ring, requests, CONSTANTS), shortcut(ring, requests)
        assert short.first_s[0] == pytest.approx(real.first_s[0], rel=0.02)
        assert short.token_s[0] == pytest.approx(real.token_s[0], rel=0.02)


@pytest.mark.parametrize(
    ("ring", "rate"),
    [
        (ring_of(4, "NVIDIA RTX 3060 12GB", "Llama-3.1-70B", 4.85, 0.02), 0.08),
        (ring_of(2, "RTX 4090", "Llama-3.1-70B", 4.85, 0.04), 0.3),
        (ring_of(2, "RTX 4090", "Llama-3.1-8B", 16.0, 0.001), 1.0),
    ],
)
def test_under_load_it_is_near(ring: Ring, rate: float) -> None:
    requests = list(arrive(Arrivals(rate, 20 / rate, 400, 50, 0.5), 1))
    real, short = run_machines(ring, requests, CONSTANTS), shortcut(ring, requests)
    assert real.tokens == short.tokens == sum(r.answer for r in requests)
    for times, near in (("token_s", 0.07), ("whole_s", 0.07), ("first_s", 0.25)):
        one, other = spread_of(getattr(real, times)), spread_of(getattr(short, times))
        assert one is not None
        assert other is not None
        assert other.mean == pytest.approx(one.mean, rel=near)


def test_windows_are_the_coordinator_s() -> None:
    assert WINDOW == (CHUNK_ROWS, BESIDE_ROWS)
