"""Machines of a pool."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from tests.sim.serving.paces import ring

from atoll.forecast.constants import shipped_fit
from atoll.forecast.devices import shipped_devices
from atoll.forecast.fleet_file import parse_fleet_file
from atoll.forecast.models import shipped_models
from atoll.forecast.outlook import Workload
from atoll.sim.serving.pools import Pool, pools_of
from atoll.sim.serving.replica import Replica


def pool() -> Pool:
    return Pool("homes", [Replica(ring()) for _ in range(4)], 5, 10, leave_rate=1e-4)


def test_every_machine_leaves_as_often() -> None:
    found = pool()
    assert found.machines == 30
    rng = random.Random(1)
    hits: Counter[int] = Counter()
    for _ in range(6000):
        hit = found.hit(rng)
        hits[id(hit) if hit else 0] += 1
    assert hits[0] == pytest.approx(2000, rel=0.1)
    assert all(hits[id(r)] == pytest.approx(1000, rel=0.15) for r in found.replicas)


def test_the_next_leaves_sooner_the_more_there_are() -> None:
    found = pool()
    rng = random.Random(1)
    mean_s = sum(found.next_leave_s(rng) for _ in range(5000)) / 5000
    assert mean_s == pytest.approx(1e4 / 30, rel=0.05)
    found.leave_rate = 0.0
    assert found.next_leave_s(rng) == float("inf")


def test_systems_that_are_down_lose_no_machines() -> None:
    found = pool()
    found.replicas[0].give_up(0.0)
    found.down.append(found.replicas[0])
    rng = random.Random(1)
    assert found.machines == 25
    assert all(found.hit(rng) is not found.replicas[0] for _ in range(200))


def test_time_of_those_that_stand_by() -> None:
    found = pool()
    found.pass_time(2.0)
    found.spares = 3
    found.pass_time(4.0)
    assert found.spare_s == 10 * 2 + 3 * 2


def test_pools_of_a_fleet() -> None:
    text = (
        "[[parts]]\nfleet = '8 x H100 SXM'\nrole = 'prefill'\ncaches = ['1 TB @ 50 GB/s']\n"
        "[[parts]]\nfleet = '61 x RTX 4090 @ 20 ms'\nmachines = 5\nleave = 0.36\nback = '60 s'\n"
        "takeover = '2 s'\nrole = 'decode'\nreuse = false\n"
    )
    work = Workload(shipped_models().shapes.find("Llama-3.1-70B"), 4.85, 500.0, 250.0)
    fleet = parse_fleet_file(text, shipped_devices(), source="f")
    servers, rings = pools_of(fleet, work, shipped_fit().constants, 60.0)
    assert (len(servers.replicas), servers.size, servers.spares) == (1, 1, 0)
    assert (len(rings.replicas), rings.size, rings.spares) == (12, 5, 1)
    assert rings.leave_rate == pytest.approx(1e-4)
    assert (rings.back_s, rings.takeover_s) == (60.0, 2.0)
    one, other = servers.replicas[0], rings.replicas[0]
    assert (one.hands_over, one.takes_over, one.patience_s) == (True, False, 60.0)
    assert other.takes_over
    assert other.pace is rings.replicas[9].pace
    assert rings.watts == pytest.approx(other.pace.watts[1] / 5)
    assert other.cache is None
    assert one.cache is not None
    # A block of 512 positions: 80 layers, 8 heads of 128 keys and values in half precision.
    block = 512 * 80 * 2 * 8 * 128 * 2
    assert one.cache.tiers[1].blocks == pytest.approx(1e12 / block)
    assert one.cache.tiers[1].block_s == pytest.approx(block / 50e9)
