"""Memory links over whatever carries them; what every link does is in test_stream_link.py."""

from __future__ import annotations

import contextlib
import struct
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.heard import linked

from atoll.domain.bulk import Parting
from atoll.domain.errors import LinkFault, ProtocolFault
from atoll.domain.lent_memory import (
    BLOB_BYTES_MAX,
    PART_BYTES,
    AskPart,
    BlobDropped,
    BlobHere,
    BlobKept,
    BlobPart,
    DropBlob,
    GetBlob,
    MemoryMessage,
    NoBlob,
    NotKept,
    PartTaken,
    PutBlob,
    Room,
    memory_problem,
)
from atoll.net.memory_link import MEMORY_SPEECH

pytestmark = pytest.mark.network
pair = partial(linked, kind="memory")


async def test_messages_in_both_directions(open_any_station: Any) -> None:
    async with pair(open_any_station) as (near, near_heard, far, far_heard):
        assert near.kind == far.kind == "memory"
        said: list[MemoryMessage] = [
            PutBlob("a-name", BLOB_BYTES_MAX),
            BlobPart(bytes(PART_BYTES)),
            GetBlob("~"),
            AskPart(0),
            DropBlob("x" * 200),
        ]
        for message in said:
            assert near.send(message)
        assert [await far_heard.messages.get() for _ in said] == said
        answers: list[MemoryMessage] = [
            *(Room(), PartTaken(), BlobKept(), NotKept("p" * 500)),
            *(BlobHere(1), NoBlob(), BlobDropped()),
        ]
        for message in answers:
            assert far.send(message)
        assert [await near_heard.messages.get() for _ in answers] == answers


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
        (PutBlob("", 1), "a name that is none"),
        (PutBlob("a b", 1), "a name that is none"),
        (PutBlob("x" * 201, 1), "a name that is none"),
        (PutBlob("x", 0), "a blob of 0 bytes"),
        (PutBlob("x", BLOB_BYTES_MAX + 1), "a blob of 4294967297 bytes"),
        (GetBlob("\n"), "a name that is none"),
        (DropBlob("\u00e9"), "a name that is none"),
        (BlobPart(b""), "a part of 0 bytes"),
        (BlobPart(bytes(PART_BYTES + 1)), "a part of 262145 bytes"),
        (AskPart(-1), "an index out of range"),
        (AskPart(1 << 40), "an index out of range"),
        (BlobHere(-1), "a blob of -1 bytes"),
        (NotKept("x" * 501), "its text is too long"),
    ],
)
async def test_what_cannot_be_ends_the_link(
    open_any_station: Any, message: MemoryMessage, problem: str
) -> None:
    async with pair(open_any_station) as (near, near_heard, _far, far_heard):
        near.send(message)
        for heard in (far_heard, near_heard):
            reason = await heard.ended
            assert isinstance(reason, LinkFault)
            assert problem in reason.problem


async def test_a_message_that_is_too_long_is_not_even_sent(open_any_station: Any) -> None:
    async with pair(open_any_station) as (near, _heard, _far, _):
        with pytest.raises(ValueError, match="memory message of"):
            near.send(BlobPart(bytes(PART_BYTES + 1024)))


NAMES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=200)
SIZES = st.integers(1, BLOB_BYTES_MAX)
MESSAGES: st.SearchStrategy[MemoryMessage] = st.one_of(
    st.builds(PutBlob, NAMES, SIZES),
    st.builds(BlobPart, st.binary(min_size=1, max_size=300)),
    st.builds(GetBlob, NAMES) | st.builds(DropBlob, NAMES),
    st.builds(BlobHere, SIZES) | st.builds(AskPart, st.integers(0, 1000)),
    st.sampled_from([Room(), PartTaken(), BlobKept(), NoBlob(), BlobDropped()]),
    st.builds(NotKept, st.text(max_size=100)),
)


@given(messages=st.lists(MESSAGES, max_size=6), cuts=st.lists(st.integers(0, 2000), max_size=9))
def test_any_chunking_gives_the_same_messages(
    messages: list[MemoryMessage], cuts: list[int]
) -> None:
    data = b"".join(map(MEMORY_SPEECH.encode, messages))
    places = [0, *sorted(min(c, len(data)) for c in cuts), len(data)]
    decoder = MEMORY_SPEECH.decoder()
    chunks = [data[a:b] for a, b in pairwise(places)]
    assert [one for chunk in chunks for one in decoder.feed(chunk)] == messages


@given(chunks=st.lists(st.binary(max_size=200), max_size=8))
def test_arbitrary_bytes_raise_nothing_but_protocol_faults(chunks: list[bytes]) -> None:
    decoder = MEMORY_SPEECH.decoder()
    with contextlib.suppress(ProtocolFault):
        for chunk in chunks:
            list(decoder.feed(chunk))


@given(body=st.binary(min_size=1, max_size=200))
def test_arbitrary_bodies_raise_nothing_but_protocol_faults(body: bytes) -> None:
    with contextlib.suppress(ProtocolFault):
        list(MEMORY_SPEECH.decoder().feed(struct.pack(">I", len(body)) + body))


@given(messages=st.lists(MESSAGES, min_size=1), at=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_damaged_messages_are_still_within_bounds(
    messages: list[MemoryMessage], at: int, flip: int
) -> None:
    data = bytearray(b"".join(map(MEMORY_SPEECH.encode, messages)))
    data[at % len(data)] ^= flip
    with contextlib.suppress(ProtocolFault):
        for message in MEMORY_SPEECH.decoder().feed(bytes(data)):
            assert memory_problem(message) == ""


def test_a_length_beyond_the_bound_is_refused_before_its_bytes_come() -> None:
    with pytest.raises(ProtocolFault, match="message of 263169 bytes"):
        list(MEMORY_SPEECH.decoder().feed(struct.pack(">I", PART_BYTES + 1025)))
