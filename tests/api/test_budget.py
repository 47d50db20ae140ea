"""Tokens a minute: what is used beyond them is waited for."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atoll.api.budget import TokenBudget


def test_a_minute_s_worth_is_there_at_once_and_comes_back_steadily() -> None:
    budget = TokenBudget(60, now_s=0)
    budget.take(60, now_s=0)
    assert budget.wait_s(now_s=0) == 1
    assert budget.wait_s(now_s=1) == 0
    assert budget.left(now_s=31) == 31
    assert budget.left(now_s=1000) == 60


def test_a_debt_is_waited_for() -> None:
    budget = TokenBudget(60, now_s=0)
    budget.take(200, now_s=0)
    assert budget.wait_s(now_s=0) == 141
    assert budget.wait_s(now_s=140.5) == 1
    assert budget.wait_s(now_s=141) == 0


def test_another_rate_leaves_the_debt() -> None:
    budget = TokenBudget(60, now_s=0)
    budget.take(160, now_s=0)
    budget.set_rate(600, now_s=0)
    assert (budget.left(now_s=0), budget.wait_s(now_s=0)) == (-100, 11)
    budget.set_rate(60, now_s=100)
    assert budget.left(now_s=100) == 60


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.integers(1, 5000),
    st.lists(st.tuples(st.floats(0, 30), st.integers(0, 3000)), min_size=1, max_size=50),
)
def test_in_the_long_run_no_more_than_the_rate(rate: int, asked: list[tuple[float, int]]) -> None:
    """Whoever asks only when let in has never had more than the rate, one minute's worth, and
    the last answer.
    """
    budget, now_s, had, last = TokenBudget(rate, now_s=0), 0.0, 0, 0
    for pause_s, tokens in asked:
        now_s += pause_s
        now_s += budget.wait_s(now_s=now_s)
        assert had <= rate + rate * now_s / 60 + 1e-6
        budget.take(tokens, now_s=now_s)
        had, last = had + tokens, tokens
    assert had - last <= rate + rate * now_s / 60 + 1e-6
