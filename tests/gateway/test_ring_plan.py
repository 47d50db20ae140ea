"""From a fleet to a plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import msgspec
import pytest
from tests.support.hand_node import a_join

from atoll.domain.ids import Epoch, ModelId, NodeId, ShardId
from atoll.gateway.fleet import Member
from atoll.gateway.options import RingOptions
from atoll.gateway.ring_plan import coordinator_config, make_plan
from atoll.model.manifest import Manifest, ShardEntry
from atoll.net.link import ControlLink

MANIFEST = Manifest(
    model=ModelId("a" * 64),
    size_bytes=1,
    name="m",
    architecture="llama",
    quantisation="F16",
    n_layers=6,
    n_embd=8,
    n_vocab=9,
    context_train=64,
    layer_bytes=(1,) * 6,
    layer_kv_bytes=(1,) * 6,
    other_bytes=0,
    data_offset=77,
    shards=(ShardEntry(1, 3, ShardId("b" * 64), 5), ShardEntry(3, 5, ShardId("c" * 64), 6)),
)
OPTIONS = RingOptions(nodes=2, streams=3, context=64, rows_max=32, chunk_rows=512)


@dataclass
class Link:
    """What a plan needs of a link."""

    peer: NodeId
    peer_host: str = "10.0.0.7"
    local_host: str = "10.0.0.1"


def member(place: int, *, host: str = "", machine: str = "one") -> Member:
    join = msgspec.structs.replace(a_join("", 4000 + place), data_host=host, host_id=machine)
    link = cast(ControlLink, Link(NodeId(str(place) * 64)))
    return Member(place, f"n{place}", "owner", join, link)


def test_each_place_gets_its_layers_and_address() -> None:
    members = [member(0), member(1, host="reef.example")]
    gateway = NodeId("9" * 64)
    plan = make_plan(Epoch(1, 2), MANIFEST, members, OPTIONS, gateway=(gateway, 8643))
    assert [(s.first, s.last, s.shard[0]) for s in plan.stages] == [(1, 3, "b"), (3, 5, "c")]
    assert [(s.host, s.port) for s in plan.stages] == [("10.0.0.7", 4000), ("reef.example", 4001)]
    assert (plan.gateway, plan.gateway_host, plan.gateway_port) == (gateway, "10.0.0.1", 8643)
    assert plan.data_offset == 77
    assert (plan.epoch, plan.n_slots, plan.context, plan.rows_max) == (Epoch(1, 2), 3, 64, 32)


def test_more_or_fewer_members_than_shards_are_no_plan() -> None:
    with pytest.raises(ValueError, match="zip"):
        make_plan(Epoch(1, 1), MANIFEST, [member(0)], OPTIONS, gateway=(NodeId("9" * 64), 1))


@pytest.mark.parametrize(("second", "lanes"), [("one", 1), ("other", 3)])
def test_stages_on_one_machine_take_turns(second: str, lanes: int) -> None:
    config = coordinator_config([member(0), member(1, machine=second)], OPTIONS)
    assert config.lanes == lanes
    assert config.chunk_rows == config.exact_chunk_rows == 32
    assert config.credits == config.return_credits > config.n_slots == 3
