"""What a client of the simulation holds against its gateway."""

from __future__ import annotations

import pytest

from atoll.domain.errors import (
    AtollError,
    BadModel,
    BadRequest,
    EngineFault,
    Overloaded,
    RingDown,
)
from atoll.domain.generation import GenerateRequest, Sampled
from atoll.sim.fake_model import expected_output
from atoll.sim.traffic import BrokenInvariant
from atoll.world.clients import Session

REQUEST = GenerateRequest((1, 2), 3, ignore_eos=True)
EXPECTED = expected_output(REQUEST, 4, 32)


@pytest.fixture
def session() -> Session:
    return Session("one", REQUEST, EXPECTED)


def test_the_tokens_of_the_whole_model_are_right(session: Session) -> None:
    for sampled in EXPECTED:
        session.take(sampled)
    with pytest.raises(BrokenInvariant, match="more than 3"):
        session.take(EXPECTED[0])


def test_a_token_that_is_wrong_or_repeated_is_noticed(session: Session) -> None:
    with pytest.raises(BrokenInvariant, match="token 0"):
        session.take(Sampled(77, b"77 "))
    session.take(EXPECTED[0])
    with pytest.raises(BrokenInvariant, match="token 1"):
        session.take(Sampled(EXPECTED[0].token, b"again"))


@pytest.mark.parametrize("error", [RingDown("no ring"), Overloaded("full", retry_after_s=1)])
def test_who_has_got_nothing_may_be_turned_away(session: Session, error: AtollError) -> None:
    session.fails(error)
    assert session.ended == type(error).__name__


@pytest.mark.parametrize(
    "error",
    [
        RingDown("its ring broke"),
        Overloaded("full", retry_after_s=1),
        BadRequest("bad"),
        EngineFault("a window is missing"),
        BadModel("something else"),
    ],
)
def test_who_has_got_something_may_not(session: Session, error: AtollError) -> None:
    session.take(EXPECTED[0])
    with pytest.raises(BrokenInvariant, match="one"):
        session.fails(error)


def test_an_error_has_to_say_something(session: Session) -> None:
    with pytest.raises(BrokenInvariant, match="says nothing"):
        session.fails(RingDown(" "))


def test_frames_of_a_neighbour_that_lies_may_end_a_session(session: Session) -> None:
    session.may_fail = True
    session.fails(EngineFault("a window is missing"))
    assert session.ended == "EngineFault"
