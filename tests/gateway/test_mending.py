"""Who takes what a ring has lost."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from atoll.domain.ids import NodeId, ShardId
from atoll.gateway.casting import Cast
from atoll.gateway.mending import mend
from atoll.members.member import Member
from atoll.model.manifest import ShardEntry

ENTRIES = tuple(
    ShardEntry(first=first, last=last, shard=ShardId(f"s{first}"), size_bytes=100)
    for first, last in ((1, 3), (3, 5))
)


def member(name: str, *stands_by: tuple[int, int], free_bytes: int = 1000) -> Member:
    link: Any = SimpleNamespace(peer=NodeId(name))
    join: Any = SimpleNamespace(memory_free_bytes=free_bytes)
    return Member(None, name, "me", join, link, stands_by=set(stands_by))


A, B = member("a"), member("b")
RING = Cast((A, B), ENTRIES)


def names(found: Cast | None) -> list[str]:
    return [m.name for m in cast(Cast, found).members]


def test_who_stands_by_comes_first() -> None:
    spare, ready = member("spare"), member("ready", (3, 5))
    present = {id(m) for m in (A, B, spare, ready)}
    assert names(mend(RING, {NodeId("a")}, present, [spare, ready])) == ["a", "ready"]


def test_then_the_node_itself_if_it_is_here() -> None:
    spare = member("spare")
    present = {id(m) for m in (A, B, spare)}
    assert names(mend(RING, {NodeId("a")}, present, [spare])) == ["a", "b"]
    # Who came back is another member: what it held is gone.
    assert names(mend(RING, {NodeId("a")}, present - {id(B)}, [spare])) == ["a", "spare"]


def test_nobody_without_the_memory_takes_it() -> None:
    small = member("small", free_bytes=150)
    assert mend(RING, {NodeId("a")}, {id(A), id(small)}, [small]) is None


def test_two_parts_are_not_given_to_one() -> None:
    spare = member("spare", (1, 3), (3, 5))
    assert mend(RING, set(), {id(spare)}, [spare]) is None


def test_where_only_a_link_broke_all_stay() -> None:
    sound = {NodeId("a"), NodeId("b")}
    assert names(mend(RING, sound, {id(A), id(B)}, [])) == ["a", "b"]
