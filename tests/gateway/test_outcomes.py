"""Codes of the coordinator as errors."""

from __future__ import annotations

import pytest

from atoll.domain.errors import AtollError, BadRequest, EngineFault, Overloaded, RingDown
from atoll.gateway.outcomes import failure, rejection


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("overloaded", Overloaded),
        ("too_long", BadRequest),
        ("bad_request", BadRequest),
        ("ring_down", RingDown),
        ("cancelled", RingDown),
    ],
)
def test_a_session_that_was_not_begun(code: str, kind: type[AtollError]) -> None:
    error = rejection(code, "why", None)
    assert type(error) is kind
    assert error.problem == "why"


def test_the_time_to_wait_is_passed_on() -> None:
    error = rejection("overloaded", "why", 7)
    assert isinstance(error, Overloaded)
    assert error.retry_after_s == 7


def test_a_session_that_ended_early() -> None:
    assert isinstance(failure("ring_down", "why"), RingDown)
    error = failure("frame", "why")
    assert isinstance(error, EngineFault)
    assert error.problem == "why (frame)"
