from __future__ import annotations

import pytest
from bench.far_measures import (
    CROWD,
    Limit,
    Rate,
    bursts,
    crowd_rate,
    crowd_tokens,
    decode_rate,
    far_share,
    total,
)
from bench.stream import Streamed


def answer(*arrivals_s: float) -> Streamed:
    return Streamed(0.0, arrivals_s, b"")


def test_tokens_of_one_loop_are_one_burst() -> None:
    assert bursts([0.0, 0.01, 0.21, 0.22, 0.23, 0.43], 0.1) == 3
    assert bursts([0.0], 0.1) == 1


def test_a_rate_counts_tokens_after_the_first_however_many_an_event_brings() -> None:
    # Five tokens: one, then two events of two, then the event that ends it all.
    rate = decode_rate(answer(1.0, 1.2, 1.4, 1.4), 5, apart_s=0.1)
    assert (rate.tokens, rate.bursts) == (4, 2)
    assert rate.per_s == pytest.approx(10)


def test_a_rate_of_several_is_all_tokens_over_all_time() -> None:
    both = total([Rate(10, 1.0), Rate(10, 4.0)])
    assert both.per_s == pytest.approx(4)


def test_each_kind_of_prompt_gets_as_many_tokens() -> None:
    each = crowd_tokens(20)
    assert sum(CROWD.values()) == 16
    assert {each[kind] * n for kind, n in CROWD.items()} == {120}


def test_a_crowd_is_measured_from_when_all_have_their_first_token() -> None:
    early, late = answer(0.0, 1.0, 2.0, 3.0, 4.0, 4.0), answer(2.0, 3.0, 4.0, 5.0, 5.0)
    rate = crowd_rate([early, late], [5, 4])
    # Of the early one what came after 2.0, of the late one all but the first.
    assert rate.seconds == pytest.approx(3.0)
    assert rate.tokens == round(5 * 3 / 6 + 3)


def test_the_limit_has_a_loop_for_as_many_tokens_as_one_brings() -> None:
    limit = Limit(compute_s=0.01, loop_s=0.2, accepted=4.0)
    assert limit.compute_per_s == pytest.approx(100)
    assert limit.loop_per_s == pytest.approx(1 / 0.06)


@pytest.mark.parametrize(("near", "share"), [(40.0, 0.75), (400.0, 30 / 64)])
def test_the_share_is_of_the_lesser_of_what_is_done_nearby_and_what_loops_allow(
    near: float, share: float
) -> None:
    found = far_share(30.0, near, streams=16, loop_s=0.2, lap_s=0.05)
    assert found == pytest.approx(share)
