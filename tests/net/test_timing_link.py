"""Timing links over whatever carries them; what every link does is in test_stream_link.py."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from tests.support.heard import linked

from atoll.domain.bulk import Parting
from atoll.domain.errors import LinkFault
from atoll.domain.timing import PART_BYTES, Hail, HailBack, TimingMessage, YourTurn

pytestmark = pytest.mark.network
pair = partial(linked, kind="timing")


async def test_messages_in_both_directions(open_any_station: Any) -> None:
    async with pair(open_any_station) as (near, near_heard, far, far_heard):
        assert near.kind == far.kind == "timing"
        said: list[TimingMessage] = [Hail(5), Hail((1 << 63) - 1, 3, bytes(PART_BYTES)), YourTurn()]
        for message in said:
            assert near.send(message)
        assert [await far_heard.messages.get() for _ in said] == said
        assert far.send(HailBack(5))
        assert await near_heard.messages.get() == HailBack(5)


async def test_heartbeats_decide(open_any_station: Any) -> None:
    async with pair(open_any_station, heartbeat_s=0.05) as (near, near_heard, _far, _):
        # The far side beats once a second; three of the near side's beats are much less.
        reason = await near_heard.ended
        assert isinstance(reason, LinkFault)
        assert "silent for 0.15 s" in reason.problem
        assert near.is_closed


async def test_the_other_side_says_why_it_leaves(open_any_station: Any) -> None:
    async with pair(open_any_station) as (near, near_heard, far, _):
        far.close(LinkFault("enough", hint="later"))
        reason = await near_heard.ended
        assert isinstance(reason, LinkFault)
        assert reason.problem.endswith("closed the link: enough")
        assert not near.send(Parting(""))


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (Hail(-1), "a number is out of range"),
        (Hail(1, -1), "a burst that is too long"),
        (Hail(1, 64), "a burst that is too long"),
        (Hail(1, 0, bytes(PART_BYTES + 1)), "a burst that is too long"),
        (HailBack(-1), "a number is out of range"),
    ],
)
async def test_what_cannot_be_ends_the_link(
    open_any_station: Any, message: TimingMessage, problem: str
) -> None:
    async with pair(open_any_station) as (near, near_heard, _far, far_heard):
        near.send(message)
        for heard in (far_heard, near_heard):
            reason = await heard.ended
            assert isinstance(reason, LinkFault)
            assert problem in reason.problem


async def test_a_message_that_is_too_long_is_not_even_sent(open_any_station: Any) -> None:
    async with pair(open_any_station) as (near, _heard, _far, _):
        with pytest.raises(ValueError, match="timing message of"):
            near.send(Hail(1, 0, bytes(PART_BYTES + 1024)))
