"""Bytes with times become tokens with times; what was not asked for is refused."""

from __future__ import annotations

import pytest
from tests.support.hand_completions import DONE, event, token, usage

from atoll.client.api import ApiFault
from atoll.client.sse import EVENT_CHARS_MAX
from atoll.client.timing import Piece, Timed, read_timed
from atoll.domain.errors import AtollError, LinkFault

PROMPT = 5


def _pieces(*bodies: bytes) -> list[Piece]:
    """The n-th piece comes at n seconds."""
    return [(float(number), body) for number, body in enumerate(bodies, start=1)]


async def _read(*bodies: bytes, answer_tokens: int = 3) -> Timed:
    return await read_timed(
        0.5, _pieces(*bodies), prompt_tokens=PROMPT, answer_tokens=answer_tokens
    )


async def test_each_token_has_its_time() -> None:
    found = await _read(token(), token(), token(finish="length"), usage(PROMPT, 3) + DONE)
    assert found == Timed(0.5, (1.0, 2.0, 3.0), 3)
    assert found.first_s == 0.5
    assert found.gaps_s == [1.0, 1.0]


async def test_an_event_counts_when_its_end_is_there() -> None:
    body = token() + token() + token(finish="length") + usage(PROMPT, 3) + DONE
    cut = len(token()) - 1
    found = await _read(body[:cut], body[cut:])
    assert found.arrivals_s == (2.0, 2.0, 2.0)


async def test_a_last_token_without_text_shows_in_the_end() -> None:
    found = await _read(token(), token(), token("", "length"), usage(PROMPT, 3), DONE)
    assert found.arrivals_s == (1.0, 2.0, 3.0)
    alone = await _read(token("", "length"), usage(PROMPT, 1) + DONE, answer_tokens=1)
    assert alone.arrivals_s == (1.0,)


async def test_tokens_that_end_inside_a_character_come_with_the_next() -> None:
    found = await _read(
        token(), token("é"), token("", "length") + usage(PROMPT, 5) + DONE, answer_tokens=5
    )
    assert found == Timed(0.5, (1.0, 2.0, 3.0), 5)
    assert found.tokens_between(1.0, 3.0) == 4.0
    assert found.tokens_between(1.0, 2.0) == 2.0


async def test_a_token_in_front_of_the_prompt_is_allowed() -> None:
    found = await _read(token(), token(), token(), usage(PROMPT + 1, 3) + DONE)
    assert found.tokens == 3


async def test_servers_that_do_not_count() -> None:
    by_reason = await _read(token(), token("é", "length"), DONE)
    assert by_reason.tokens == 3
    by_events = await _read(token(), token(), token(finish=None), DONE)
    assert by_events.tokens == 3


def test_a_lone_arrival_says_nothing_of_speed() -> None:
    assert Timed(0.0, (1.0,), 1).tokens_between(0.0, 2.0) == 0.0
    assert Timed(0.0, (1.0,), 1).gaps_s == []


@pytest.mark.parametrize(
    ("bodies", "problem", "kind"),
    [
        ([], "closed the connection", ApiFault),
        ([token()], "closed the connection", ApiFault),
        ([token(), event(error={"message": "a node is gone"})], "a node is gone", ApiFault),
        ([b"event: error\n" + event(error={"message": "no"})], "broke off: no", ApiFault),
        ([b"data: [1\n\n"], "no part of a completion", ApiFault),
        ([event(choices=[{"text": 3}])], "no part of a completion", ApiFault),
        ([b"data: " + b"x" * (EVENT_CHARS_MAX + 2)], "more than", LinkFault),
        ([DONE], "no token", ApiFault),
        ([token(finish="stop"), usage(PROMPT, 1) + DONE], "1 tokens in place of 3", ApiFault),
        ([token(finish="stop"), DONE], "1 tokens in place of 3", ApiFault),
        ([token() * 4, usage(PROMPT, 4) + DONE], "4 tokens in place of 3", ApiFault),
        ([token() * 3, usage(17, 3) + DONE], "counts 17 tokens in a prompt of 5", ApiFault),
        ([token() * 3, usage(PROMPT - 1, 3) + DONE], "counts 4 tokens", ApiFault),
    ],
)
async def test_what_cannot_be_timed(
    bodies: list[bytes], problem: str, kind: type[AtollError]
) -> None:
    with pytest.raises(kind, match=problem):
        await _read(*bodies)
