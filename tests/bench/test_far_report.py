from __future__ import annotations

import pytest
from bench.far_contest import PEER, Found
from bench.far_measures import Rate
from bench.far_prompts import KINDS
from bench.far_report import report

FAR, NEAR = 50, 0
ALWAYS_NULL_WITHOUT_GUESSES = (
    "one_50",
    "one_50_lookup",
    "speculation_repeat",
    "speculation_chat",
    "second_turn_ttft",
    "exact_equal",
    "greedy_equal",
)


def rates(per_s: float, **other: float) -> dict[str, Rate]:
    """40 tokens of each kind."""
    return {kind: Rate(40, 40 / other.get(kind, per_s), 20) for kind in KINDS}


@pytest.fixture
def found() -> Found:
    """Two rounds of a ring that only decodes, and of a peer."""
    found = Found(whole_s=[0.01, 0.04, 0.02])
    found.one[NEAR, "none"] = [rates(50), rates(40)]
    found.one[FAR, "none"] = [rates(5), rates(4)]
    found.one[NEAR, PEER] = [rates(100), rates(40)]
    found.one[FAR, PEER] = [rates(2), rates(2)]
    found.sixteen[NEAR, "none"] = [Rate(320, 4), Rate(320, 4)]
    found.sixteen[FAR, "none"] = [Rate(320, 8), Rate(320, 8)]
    found.sixteen[FAR, PEER] = [Rate(320, 16), Rate(320, 16)]
    found.first_token_s[NEAR] = [2.0, 2.0]
    found.first_token_s[FAR] = [2.4, 2.2]
    found.turns_s = [(4.0, 4.2, 0)]
    return found


def test_ratios_are_medians_of_the_rounds_own(found: Found) -> None:
    figures = report(found, ["none"], [NEAR, FAR], 16)
    assert figures["one_0_none"] == pytest.approx((0.5 + 1.0) / 2)
    assert figures["one_50_none"] == pytest.approx((2.5 + 2.0) / 2)
    assert figures["sixteen_50"] == pytest.approx(2.0)
    assert figures["sixteen_0"] is None
    assert figures["ttft_far_over_near"] == pytest.approx((1.1 + 1.0) / 2)


def test_what_the_product_cannot_do_is_null(found: Found) -> None:
    figures = report(found, ["none"], [NEAR, FAR], 16)
    assert {key: figures[key] for key in ALWAYS_NULL_WITHOUT_GUESSES} == dict.fromkeys(
        ALWAYS_NULL_WITHOUT_GUESSES
    )


def test_guesses_are_held_against_none_by_kind(found: Found) -> None:
    found.one[FAR, "lookup"] = [rates(20, chat=6), rates(20, chat=6)]
    found.one[FAR, "none"] = [rates(5), rates(5)]
    found.equal = {True: 1.0, False: 0.5}
    figures = report(found, ["none", "lookup"], [NEAR, FAR], 16)
    assert figures["speculation_chat"] == pytest.approx(1.2)
    assert figures["speculation_repeat"] == pytest.approx(4.0)
    assert (figures["exact_equal"], figures["greedy_equal"]) == (1.0, 0.5)
    assert figures["one_50"] is None
    # All tokens over all time: 3 x 40 in 20/3 + 2 + 2 seconds, the peer's in 60.
    assert figures["one_50_lookup"] == pytest.approx(60 / (40 / 6 + 4), abs=1e-3)


def test_the_limit_counts_the_tokens_of_a_loop(found: Found) -> None:
    figures = report(found, ["none"], [NEAR, FAR], 16)
    far = figures["limits"]["50"]
    assert far["accepted"] == pytest.approx(2.0)
    assert far["compute_and_loop"] == pytest.approx(1 / (0.01 + 0.2 / 2), abs=0.1)
    assert figures["limit_share_50"] == far["share"]
    assert figures["limits"]["0"]["compute_and_loop"] == pytest.approx(100)


def test_the_share_far_away_needs_a_lap_nearby(found: Found) -> None:
    assert report(found, ["none"], [FAR], 16)["far_share"] is None
    share = report(found, ["none"], [NEAR, FAR], 16)["far_share"]
    caps = [min(80, 16 / (0.2 + 1 / 50)), min(80, 16 / (0.2 + 1 / 40))]
    assert share == pytest.approx(sum(40 / cap for cap in caps) / 2, abs=1e-3)


def test_a_second_turn_counts_once_something_was_reused(found: Found) -> None:
    found.turns_s = [(4.0, 0.4, 1900)]
    figures = report(found, ["none"], [NEAR, FAR], 16)
    assert figures["second_turn_ttft"] == pytest.approx(0.1)
