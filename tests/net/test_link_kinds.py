"""Bulk links over whatever carries them; the other kinds are in test_stream_link.py."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest
from tests.support.heard import linked

from atoll.domain.bulk import (
    BLOCK_BYTES_MAX,
    AskBlock,
    AskOutline,
    Block,
    BulkMessage,
    NotHere,
    Outline,
    Parting,
    ShardRange,
)
from atoll.domain.errors import LinkFault
from atoll.domain.ids import ModelId

pytestmark = pytest.mark.network
SHARD = ShardRange(ModelId("a" * 64), 3, 9)
pair = partial(linked, kind="bulk")


async def test_messages_in_both_directions(open_any_station: Any) -> None:
    async with pair(open_any_station) as (near, near_heard, far, far_heard):
        asks: list[BulkMessage] = [AskOutline(SHARD), AskBlock(SHARD, 1 << 40, BLOCK_BYTES_MAX)]
        answers: list[BulkMessage] = [
            Outline(5, 1 << 20, bytes(32)),
            Block(1 << 40, bytes(BLOCK_BYTES_MAX)),
            NotHere("gone", "ask another"),
        ]
        assert near.kind == far.kind == "bulk"
        for ask in asks:
            assert near.send(ask)
        assert [await far_heard.messages.get() for _ in asks] == asks
        for answer in answers:
            assert far.send(answer)
        assert [await near_heard.messages.get() for _ in answers] == answers


async def test_heartbeats_decide(open_any_station: Any) -> None:
    async with pair(open_any_station, heartbeat_s=0.05) as (near, near_heard, _far, far_heard):
        # The far side beats once a second; three of the near side's beats are much less.
        reason = await near_heard.ended
        assert isinstance(reason, LinkFault)
        assert "silent for 0.15 s" in reason.problem
        assert near.is_closed
        assert isinstance(await far_heard.ended, LinkFault)


async def test_the_other_side_says_why_it_leaves(open_any_station: Any) -> None:
    async with pair(open_any_station) as (near, near_heard, far, far_heard):
        far.close(LinkFault("too many shards are fetched from here", hint="later"))
        reason = await near_heard.ended
        assert isinstance(reason, LinkFault)
        assert reason.problem.endswith("closed the link: too many shards are fetched from here")
        assert isinstance(await far_heard.ended, LinkFault)
        assert not near.send(Parting(""))


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (AskBlock(SHARD, 0, BLOCK_BYTES_MAX + 1), "a block of 262145 bytes"),
        (AskBlock(SHARD, 0, 0), "a block of 0 bytes"),
        (AskBlock(SHARD, -1, 5), "a number is out of range"),
        (AskOutline(ShardRange(SHARD.model, -1, 4)), "a number is out of range"),
        (Outline(5, 5, b""), "pieces of 5 bytes"),
        (Block(-4, b"x"), "a number is out of range"),
    ],
)
async def test_what_cannot_be_ends_the_link(
    open_any_station: Any, message: BulkMessage, problem: str
) -> None:
    async with pair(open_any_station) as (near, near_heard, _far, far_heard):
        near.send(message)
        for heard in (far_heard, near_heard):
            reason = await heard.ended
            assert isinstance(reason, LinkFault)
            assert problem in reason.problem


async def test_a_kind_that_nobody_takes(open_any_station: Any) -> None:
    async with asyncio.timeout(10), open_any_station(bulk=False) as station:
        with pytest.raises(LinkFault, match="no bulk links are taken here"):
            await station.dial_bulk()
