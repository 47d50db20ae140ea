"""What an order to fetch a shard ahead may hold, and its answers."""

from __future__ import annotations

import msgspec
import pytest

from atoll.domain.address import Address, HostPort
from atoll.domain.control import NotPrefetched, Prefetch, Prefetched, Prefetching, Source
from atoll.domain.ids import ModelId, NodeId, ShardId
from atoll.domain.prefetch import SOURCES_MAX, prefetch_problem

SOURCE = Source(NodeId("c" * 64), "reef", Address(tls=HostPort("10.0.0.1", 7)))
ORDER = Prefetch(
    number=1,
    model=ModelId("a" * 64),
    n_layers=6,
    data_offset=0,
    first=1,
    last=5,
    shard=ShardId("b" * 64),
    size_bytes=10,
    sources=(SOURCE,),
)


@pytest.mark.parametrize(
    "message",
    [ORDER, Prefetching(0, 0, 0), Prefetching(1, 5, 10), Prefetched(1), NotPrefetched(1, "why")],
)
def test_what_makes_sense(
    message: Prefetch | Prefetching | Prefetched | NotPrefetched,
) -> None:
    assert prefetch_problem(message) == ""


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"number": -1}, "its number is out of range"),
        ({"number": 1 << 63}, "its number is out of range"),
        ({"model": "../../secrets"}, "no hash"),
        ({"shard": "b" * 63}, "no hash"),
        ({"n_layers": 0}, "a model of 0 layers"),
        ({"n_layers": 1 << 40}, "a model of"),
        ({"first": -1}, "layers that the model does not have"),
        ({"first": 5}, "layers that the model does not have"),
        ({"last": 7}, "layers that the model does not have"),
        ({"data_offset": -1}, "a size"),
        ({"size_bytes": 0}, "a size"),
        ({"size_bytes": 1 << 61}, "a size"),
        ({"sources": (SOURCE,) * (SOURCES_MAX + 1)}, "17 sources"),
        ({"sources": (Source(NodeId("me"), "", Address()),)}, "a source that is no key"),
        ({"sources": (Source(SOURCE.node, "", Address(relay="file:///etc")),)}, "relay"),
    ],
)
def test_orders_that_do_not(changes: dict[str, object], problem: str) -> None:
    assert problem in prefetch_problem(msgspec.structs.replace(ORDER, **changes))


@pytest.mark.parametrize(
    "message",
    [
        Prefetching(-1, 0, 0),
        Prefetching(1, -1, 0),
        Prefetching(1, 0, -1),
        Prefetching(1, 1 << 61, 0),
        Prefetched(-1),
        NotPrefetched(1 << 63, ""),
    ],
)
def test_answers_that_do_not(message: Prefetching | Prefetched | NotPrefetched) -> None:
    assert prefetch_problem(message)
