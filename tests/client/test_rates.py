"""Speeds, spreads and percentiles, worked out by hand."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.client.rates import Round, answer_speed, percentile, prompt_speed, rate_of
from atoll.client.timing import Timed
from atoll.client.workload import Trial
from atoll.domain.errors import BadRequest


def steady(asked_s: float, first_s: float, gap_s: float, tokens: int) -> Timed:
    """One arrival for each token."""
    return Timed(asked_s, tuple(first_s + gap_s * n for n in range(tokens)), tokens)


def test_a_prompt_is_read_when_its_first_token_is_there() -> None:
    trial = Trial("pp", 512)
    assert prompt_speed(trial, [Timed(1.0, (3.0,), 1)]) == 256.0


def test_prompts_at_once_count_until_the_last_is_read() -> None:
    trial = Trial("pp", 100, streams=2)
    assert prompt_speed(trial, [Timed(0.0, (1.0,), 1), Timed(0.5, (4.0,), 1)]) == 50.0


def test_the_first_token_is_no_step_of_generation() -> None:
    trial = Trial("tg", 10)
    assert answer_speed(trial, [steady(0.0, 5.0, 0.5, 11)]) == 2.0


def test_answers_count_while_all_of_them_run() -> None:
    trial = Trial("tg", 10, streams=2)
    answers = [steady(0.0, 1.0, 1.0, 11), steady(0.0, 5.0, 1.0, 11)]
    # From 5 s to 11 s each has six more tokens.
    assert answer_speed(trial, answers) == 2.0


def test_tokens_that_share_an_arrival_count_all() -> None:
    assert answer_speed(Trial("tg", 8), [Timed(0.0, (1.0, 2.0, 3.0), 9)]) == 4.0


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        ([Timed(0.0, (1.0,), 9)], "came in one piece"),
        ([Timed(0.0, (1.0, 1.0), 9)], "came in one piece"),
        ([steady(0, 1, 1, 9), steady(0, 9, 1, 9)], "2 answers never ran at the same time"),
        ([steady(0, 1, 1, 9), steady(0, 20, 1, 9)], "never ran at the same time"),
    ],
)
def test_answers_that_cannot_be_timed(answers: list[Timed], problem: str) -> None:
    with pytest.raises(BadRequest, match=problem):
        Round.of(Trial("tg", 8, streams=len(answers)), answers)


def test_a_row() -> None:
    trial = Trial("tg", 2, 512)
    rounds = [Round.of(trial, [steady(0.0, first, gap, 3)]) for first, gap in ((1, 1), (2, 0.5))]
    rate = rate_of(trial, rounds)
    assert (rate.test, rate.kind, rate.tokens, rate.depth) == ("tg2 @ d512", "tg", 2, 512)
    assert (rate.streams, rate.rounds, rate.samples) == (1, 2, (1.0, 2.0))
    assert rate.tokens_per_s == 1.5
    assert rate.sd == pytest.approx(statistics.stdev([1, 2]))
    assert rate.first_ms_p50 == 1500.0
    assert rate.token_ms_p50 == 750.0
    assert rate.token_ms_p99 == pytest.approx(1000.0)


def test_one_round_has_no_spread_and_a_prompt_no_time_between_tokens() -> None:
    trial = Trial("pp", 512)
    rate = rate_of(trial, [Round.of(trial, [Timed(0.0, (2.0,), 1)])])
    assert (rate.tokens_per_s, rate.sd) == (256.0, 0.0)
    assert (rate.token_ms_p50, rate.token_ms_p99) == (None, None)


@given(
    st.lists(st.floats(0, 1e6), min_size=1, max_size=60),
    st.one_of(st.sampled_from([0, 50, 99, 100]), st.floats(0, 100)),
)
def test_percentiles_are_numpys(samples: list[float], percent: float) -> None:
    assert percentile(samples, percent) == pytest.approx(float(np.percentile(samples, percent)))
