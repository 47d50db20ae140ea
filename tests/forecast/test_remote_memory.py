"""Caches in slower memory: more streams, and what they wait for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from atoll.forecast.compare import Forecast, forecast
from atoll.forecast.constants import shipped_fit
from atoll.forecast.devices import shipped_devices
from atoll.forecast.fleet_file import CacheTier, parse_fleet_file
from atoll.forecast.models import shipped_models
from atoll.forecast.outlook import Workload
from atoll.forecast.remote_memory import NOTE, remote_caches
from atoll.forecast.targets import Target

WORK = Workload(shipped_models().shapes.find("Llama-3.1-70B"), 8.0, 8000.0, 250.0)
SLOW = Target(tpot_s=1.0)


def of(caches: str, target: Target = SLOW, work: Workload = WORK) -> Forecast:
    text = f"[[parts]]\nfleet = '2 x H100 SXM'\ncaches = [{caches}]"
    fleet = parse_fleet_file(text, shipped_devices(), source="f")
    return forecast(fleet, work, target, shipped_fit())


def test_what_does_not_fit_is_read_from_the_fastest_tiers() -> None:
    tiers = [CacheTier(1e9, 1e9), CacheTier(10e9, 10e9)]
    caches = remote_caches(tiers, free=5e9, cached=2e9)
    assert caches.room == 16e9
    assert [caches.more_s(n) for n in (0, 2)] == [0.0, 0.0]
    assert caches.more_s(3) == pytest.approx(1e9 / 10e9)
    # Ten gigabytes from the faster, and one from the slower one.
    assert caches.more_s(8) == pytest.approx(10e9 / 10e9 + 1e9 / 1e9)
    assert caches.more_s(100) == caches.more_s(8)
    assert remote_caches([], free=-1.0, cached=1.0).more_s(3) == 0.0


def test_a_pool_lets_more_in_and_makes_them_wait() -> None:
    own, pool = of(""), of("'1 x EMFASYS'")
    assert own.limit is not None
    assert own.limit.bound == "memory"
    assert pool.streams > 3 * own.streams
    assert pool.loaded_s > own.loaded_s
    assert NOTE in pool.notes
    assert NOTE not in own.notes
    # Those that fit see nothing of it.
    few = of("'1 x EMFASYS'", Target(tpot_s=own.loaded_s))
    assert few.streams == own.streams


def test_a_slow_tier_is_worth_little() -> None:
    fast, slow = of("'1 TB @ 400 GB/s'"), of("'1 TB @ 25 GB/s'")
    assert fast.streams > slow.streams > 0
    assert slow.limit is not None
    assert slow.limit.bound == "tpot"


def test_a_model_whose_streams_fit_the_pool_alone() -> None:
    long = replace(WORK, prompt=1_000_000.0)
    assert of("", work=long).streams == 0
    assert of("'1 x EMFASYS'", Target(tpot_s=60.0), work=long).streams > 0


def test_at_full_load_they_are_not_counted() -> None:
    assert any("not counted at full load" in note for note in of("'1 x EMFASYS'", Target()).notes)
