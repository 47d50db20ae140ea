"""Round trips of a link: the least of the last ones, whatever the other side answers."""

from __future__ import annotations

from atoll.net.pulse import KEPT, WAITING_MAX, Pulse


def test_the_least_of_the_last_round_trips_counts() -> None:
    pulse = Pulse()
    assert pulse.round_trip_s is None
    pulse.sent(1, now_s=10.0)
    assert pulse.round_trip_s is None
    for count, taken_s in enumerate([0.5, 0.25, 0.75], start=1):
        pulse.sent(count, now_s=10.0)
        pulse.answered(count, now_s=10.0 + taken_s)
    assert pulse.round_trip_s == 0.25


def test_a_way_that_became_longer_is_seen() -> None:
    pulse = Pulse()
    for count in range(KEPT + 1):
        pulse.sent(count, now_s=10.0)
        pulse.answered(count, now_s=10.5 if count else 10.25)
        assert pulse.round_trip_s == (0.25 if count < KEPT else 0.5)


def test_answers_may_come_late_and_in_any_order() -> None:
    pulse = Pulse()
    for count in (1, 2, 3):
        pulse.sent(count, now_s=float(count))
    pulse.answered(3, now_s=6.5)
    assert pulse.round_trip_s == 3.5
    pulse.answered(1, now_s=7.0)
    pulse.answered(2, now_s=5.0)
    assert pulse.round_trip_s == 3.0


def test_an_answer_nobody_waits_for_is_passed_over() -> None:
    pulse = Pulse()
    pulse.answered(7, now_s=1.0)
    pulse.sent(1, now_s=1.0)
    pulse.answered(2, now_s=1.1)
    assert pulse.round_trip_s is None
    pulse.answered(1, now_s=2.0)
    pulse.answered(1, now_s=1.1)
    assert pulse.round_trip_s == 1.0


def test_what_is_never_answered_is_forgotten() -> None:
    pulse = Pulse()
    for count in range(1, WAITING_MAX + 2):
        pulse.sent(count, now_s=1.0)
    pulse.answered(1, now_s=1.5)
    assert pulse.round_trip_s is None
    pulse.answered(2, now_s=1.75)
    assert pulse.round_trip_s == 0.75
