"""Machines of a pool."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from tests.sim.serving.paces import ring

from atoll.sim.serving.pools import Pool
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
