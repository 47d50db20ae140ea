"""Models over several machines: ways and exchanges are added, tiers are filled from the fastest."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from atoll.forecast.constants import Constants
from atoll.forecast.decode import DecodeRun, token_s
from atoll.forecast.devices import Timing, shipped_devices
from atoll.forecast.models import shipped_models
from atoll.forecast.spread import (
    EXCHANGE_S,
    HOP_S,
    RATE_SHARE,
    Tier,
    Way,
    distance_s,
    pipeline_s,
    split_s,
    tiers_s,
)

BARE = Constants()
SHAPE = shipped_models().shapes.find("Llama-2-7B")
RUN = DecodeRun(SHAPE, shipped_devices().find("RTX 3090"), 8.0, "cuda")


def test_a_pipeline_adds_its_ways() -> None:
    assert pipeline_s(RUN, (), "", BARE) == token_s(RUN, BARE)
    got = pipeline_s(RUN, (0.010, 0.020, 0.030), "", BARE)
    assert got == pytest.approx(token_s(RUN, BARE) + 0.060 + 3 * HOP_S.value)


def test_hops_of_a_measured_machine_are_its_own() -> None:
    card = msgspec.structs.replace(RUN.device, timing=Timing(0.1e-3, 0.7e-3, 8.0))
    run = replace(RUN, device=card)
    got = pipeline_s(run, (0.010, 0.020), "", BARE)
    assert got == pytest.approx(token_s(run, BARE) + 0.030 + 2 * 0.7e-3)
    # Of several kinds each has its own.
    mixed = distance_s((card, RUN.device), (0.010, 0.020), "", BARE)
    assert mixed == pytest.approx(0.030 + 0.7e-3 + HOP_S.value)


def test_the_published_receipt() -> None:
    """Five machines: 127.9 ms computed, 71.9 ms on the way, 199.8 ms a token (Shard)."""
    ways = (0.0719 / 6,) * 6
    own = token_s(RUN, BARE)
    assert pipeline_s(RUN, ways, "", BARE) - own == pytest.approx(0.0719 + 6 * HOP_S.value)


def test_split_matrices_exchange_rows() -> None:
    assert split_s(RUN, 1, Way(1.0, 1.0), "", BARE) == token_s(RUN, BARE)
    way_s, rate = 1e-3, 1e8
    once = 3 * (EXCHANGE_S.value + way_s + 4096 * 4 / (rate * RATE_SHARE.value))
    own = token_s(replace(RUN, machines=4), BARE)
    assert split_s(RUN, 4, Way(way_s, rate), "", BARE) == pytest.approx(own + 64 * once)


def test_tiers_are_filled_from_the_fastest() -> None:
    tiers = (Tier(100, 1.0), Tier(10, 10.0), Tier(20, 5.0))
    assert tiers_s(10, tiers) == pytest.approx(1.0)
    assert tiers_s(20, tiers) == pytest.approx(3.0)
    assert tiers_s(130, tiers) == pytest.approx(105.0)
    with pytest.raises(ValueError, match="too small"):
        tiers_s(131, tiers)
