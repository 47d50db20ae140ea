"""Blobs in lent memory: whose they are, what they may take, and when they go."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.domain.ids import NodeId
from atoll.domain.lent_memory import PART_BYTES
from atoll.node.blob_store import BLOB_OVERHEAD_BYTES, Blob, BlobStore

ANNA, BEN, CLEO = (NodeId(c * 64) for c in "abc")
UNIT = 10 * BLOB_OVERHEAD_BYTES
"""What a blob of `SIZE` counts for."""
SIZE = UNIT - BLOB_OVERHEAD_BYTES


def a_store(units: int, *peers: NodeId) -> BlobStore:
    store = BlobStore(units * UNIT, idle_s=100.0, lost_s=10.0)
    for peer in peers:
        store.name(peer)
    return store


def put(store: BlobStore, owner: NodeId, name: str, now_s: float = 0.0, units: int = 1) -> bool:
    data = name.encode().ljust(units * UNIT - BLOB_OVERHEAD_BYTES, b".")
    blob = store.begin(owner, name, len(data), now_s)
    if blob is None:
        return False
    for at in range(0, len(data), PART_BYTES):
        assert store.add(blob, data[at : at + PART_BYTES], now_s)
    assert blob.is_whole
    return True


def held(store: BlobStore, owner: NodeId, names: str) -> str:
    return "".join(n for n in names if store._named_so(owner, n) is not None)


def test_what_was_put_is_found_in_its_parts() -> None:
    store = BlobStore(1 << 20)
    store.name(ANNA)
    data = bytes(range(256)) * (PART_BYTES // 128) + b"rest"
    blob = store.begin(ANNA, "x", len(data), 0.0)
    assert blob
    assert store.find(ANNA, "x", 0.0) is None, "not before it is whole"
    for at in range(0, len(data), PART_BYTES):
        assert store.add(blob, data[at : at + PART_BYTES], 0.0)
    assert store.find(ANNA, "x", 0.0) is blob
    assert b"".join(blob.parts) == data
    assert (store.used_bytes, store.blobs) == (len(data) + BLOB_OVERHEAD_BYTES, 1)


def test_a_name_counts_for_its_owner_alone() -> None:
    store = a_store(4, ANNA, BEN)
    assert put(store, ANNA, "x")
    assert store.find(BEN, "x", 0.0) is None
    store.drop(BEN, "x")
    assert put(store, BEN, "x")
    mine, other = store.find(ANNA, "x", 0.0), store.find(BEN, "x", 0.0)
    assert mine is not None
    assert other is not None
    assert mine is not other
    store.drop(BEN, "x")
    assert store.find(ANNA, "x", 0.0) is mine
    assert store.blobs == 1


def test_one_of_the_same_name_is_replaced() -> None:
    store = a_store(2, ANNA)
    assert put(store, ANNA, "x")
    old = store.find(ANNA, "x", 0.0)
    assert old
    assert put(store, ANNA, "x", units=2)
    assert not store.is_held(old)
    assert store.used_bytes == 2 * UNIT
    # What is too large leaves the old one.
    assert not put(store, ANNA, "x", units=3)
    assert store.find(ANNA, "x", 0.0) is not None


@pytest.mark.parametrize("length", [0, 1, SIZE - 1, SIZE + 1])
def test_a_part_has_its_length(length: int) -> None:
    store = a_store(2, ANNA)
    blob = store.begin(ANNA, "x", SIZE, 0.0)
    assert blob
    with pytest.raises(ValueError, match="part 0 of"):
        store.add(blob, bytes(length), 0.0)
    store.add(blob, bytes(SIZE), 0.0)
    with pytest.raises(ValueError, match="part 1 of"):
        store.add(blob, b"more", 0.0)


def test_the_least_recently_used_makes_room() -> None:
    store = a_store(3, ANNA)
    assert all(put(store, ANNA, name, now) for now, name in enumerate("abc"))
    store.find(ANNA, "a", 3.0)
    assert put(store, ANNA, "d", 4.0)
    assert held(store, ANNA, "abcd") == "acd"
    assert put(store, ANNA, "e", 5.0, units=2)
    assert held(store, ANNA, "abcde") == "de"


def test_nobody_takes_from_anothers_share() -> None:
    store = a_store(4, ANNA, BEN)
    assert all(put(store, BEN, name) for name in "xy")
    assert all(put(store, ANNA, name) for name in "abc")
    assert held(store, BEN, "xy") == "xy"
    assert held(store, ANNA, "abc") == "bc"
    # What is more than the share finds no room, and takes none away for it.
    assert not put(store, ANNA, "d", units=3)
    assert held(store, ANNA, "abcd") == "bc"


def test_beyond_its_share_a_borrower_has_what_others_leave() -> None:
    store = a_store(4, ANNA, BEN)
    assert all(put(store, ANNA, name) for name in "abcd")
    assert put(store, BEN, "x")
    assert held(store, ANNA, "abcd") == "bcd"
    assert put(store, BEN, "y")
    assert held(store, ANNA, "abcd") == "cd"
    assert put(store, BEN, "z")
    assert (held(store, ANNA, "abcd"), held(store, BEN, "xyz")) == ("cd", "yz")


def test_who_is_named_no_more_makes_room_first() -> None:
    store = a_store(4, ANNA, BEN, CLEO)
    assert put(store, CLEO, "x")
    assert all(put(store, ANNA, name) for name in "abc")
    store.unname(CLEO)
    assert store.share_bytes == 2 * UNIT
    assert put(store, BEN, "y")
    assert (held(store, CLEO, "x"), held(store, ANNA, "abc")) in [("", "abc"), ("x", "bc")]
    assert put(store, BEN, "z")
    assert held(store, CLEO, "x") == ""
    assert held(store, ANNA, "abc") == "bc"


def test_a_blob_that_had_to_go_takes_no_more_parts() -> None:
    store = a_store(1, ANNA)
    blob = store.begin(ANNA, "x", SIZE, 0.0)
    assert blob
    assert put(store, ANNA, "y")
    assert not store.add(blob, bytes(SIZE), 0.0)
    assert store.used_bytes == UNIT
    store.abandon(blob)
    assert held(store, ANNA, "y") == "y"


def test_what_does_not_become_whole_goes() -> None:
    store = a_store(1, ANNA)
    blob = store.begin(ANNA, "x", SIZE, 0.0)
    assert blob
    store.abandon(blob)
    assert (store.used_bytes, store.blobs) == (0, 0)
    # A whole one stays.
    assert put(store, ANNA, "y")
    whole = store.find(ANNA, "y", 0.0)
    assert whole
    store.abandon(whole)
    assert store.blobs == 1


def test_an_unused_blob_goes_in_time() -> None:
    store = a_store(3, ANNA)
    assert put(store, ANNA, "x", 0.0)
    assert put(store, ANNA, "y", 0.0)
    store.find(ANNA, "y", 50.0)
    assert store.expire(99.0) == 0
    assert store.expire(100.0) == 1
    assert held(store, ANNA, "xy") == "y"
    assert store.expire(150.0) == 1
    assert store.used_bytes == 0


def test_who_is_away_too_long_loses_all() -> None:
    store = a_store(4, ANNA, BEN)
    assert put(store, ANNA, "x", 0.0)
    assert put(store, BEN, "y", 0.0)
    store.lost(ANNA, 1.0)
    assert store.expire(10.0) == 0
    store.linked(ANNA)
    assert store.expire(20.0) == 0, "it came back"
    store.lost(ANNA, 20.0)
    assert store.expire(30.0) == 1
    assert (held(store, ANNA, "x"), held(store, BEN, "y")) == ("", "y")
    # Who has nothing here is not remembered.
    store.lost(ANNA, 31.0)
    assert put(store, ANNA, "z", 31.0)
    assert store.expire(60.0) == 0


OPS = st.lists(
    st.tuples(
        st.sampled_from([ANNA, BEN, CLEO]),
        st.sampled_from("abcdefgh"),
        st.integers(1, 60 * BLOB_OVERHEAD_BYTES),
        st.sampled_from(["put", "begin", "find", "drop", "unname", "name"]),
    ),
    max_size=60,
)


@given(OPS)
def test_the_bound_holds_and_shares_are_kept(
    ops: list[tuple[NodeId, str, int, str]],
) -> None:
    lent_bytes = 90 * BLOB_OVERHEAD_BYTES
    store = BlobStore(lent_bytes)
    for now, (owner, name, size_bytes, what) in enumerate(ops):
        before = {o: store._used.get(o, 0) for o in (ANNA, BEN, CLEO)}
        blob: Blob | None = None
        if what in {"put", "begin"}:
            blob = store.begin(owner, name, size_bytes, now)
            if blob is not None and what == "put":
                assert store.add(blob, bytes(size_bytes), now)
        elif what == "find":
            store.find(owner, name, now)
        elif what == "drop":
            store.drop(owner, name)
        else:
            getattr(store, what)(owner)
        assert store.used_bytes <= lent_bytes
        assert store.used_bytes == sum(
            b.cost_bytes for blobs in store._blobs.values() for b in blobs.values()
        )
        for other in {ANNA, BEN, CLEO} - {owner}:
            lost = before[other] - store._used.get(other, 0)
            assert not lost or before[other] > (store.share_bytes if other in store._named else 0)
        if what in {"put", "begin"} and blob is None and owner in store._named:
            assert size_bytes + BLOB_OVERHEAD_BYTES > store.share_bytes - before[owner]
