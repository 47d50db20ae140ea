"""What a key may use is changed part by part."""

from __future__ import annotations

from atoll.api.allowance import PRIORITIES, Allowance


def test_what_is_not_given_stays() -> None:
    allowance = Allowance(4, 1000, "high")
    assert allowance.changed() == allowance
    assert allowance.changed(streams=0) == Allowance(0, 1000, "high")
    assert allowance.changed(tokens_per_minute=5, priority="low") == Allowance(4, 5, "low")


def test_priorities_are_in_order_and_the_usual_one_is_none() -> None:
    assert PRIORITIES["low"] < PRIORITIES["normal"] == 0 < PRIORITIES["high"]
