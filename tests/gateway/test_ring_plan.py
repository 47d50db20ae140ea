"""From a fleet to a plan."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import msgspec
import pytest
from tests.gateway.test_routing import plan
from tests.support.hand_node import a_join

from atoll.domain.address import Address, HostPort
from atoll.domain.control import Lend
from atoll.domain.ids import Epoch, ModelId, NodeId, ShardId
from atoll.domain.wire import F16_SCALED, F32, I8_BLOCKS
from atoll.gateway.casting import Cast
from atoll.gateway.options import RingOptions
from atoll.gateway.ring_plan import coordinator_config, lends_of, make_plan, own_address
from atoll.members.member import Member
from atoll.model.manifest import Manifest, ShardEntry
from atoll.net.identity import Identity
from atoll.net.link import ControlLink, LinkSettings
from atoll.net.transport import Transport
from atoll.plan.report import PlanReport

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
    peer_port: int = 5555
    carrier: str = "tls"

    @property
    def local_host(self) -> str:
        return "10.0.0.1" if self.carrier == "tls" else ""


def member(
    place: int,
    *,
    host: str = "",
    machine: str = "one",
    carrier: str = "tls",
    quic: tuple[HostPort, ...] = (),
) -> Member:
    tls = HostPort(host, 4000 + place) if carrier == "tls" else None
    address = Address(tls, quic, "https://relay.example" if quic else "")
    join = msgspec.structs.replace(a_join("", 1), address=address, host_id=machine)
    link = cast(ControlLink, Link(NodeId(str(place) * 64), carrier=carrier))
    return Member(place, f"n{place}", "owner", join, link)


def cast_of(*members: Member) -> Cast:
    return Cast(members, MANIFEST.shards)


def test_each_place_gets_its_layers_and_address() -> None:
    members = [member(0), member(1, host="reef.example")]
    gateway = NodeId("9" * 64)
    ours = Address(tls=HostPort("10.0.0.1", 8643))
    plan = make_plan(Epoch(1, 2), MANIFEST, cast_of(*members), OPTIONS, gateway=(gateway, ours))
    assert [(s.first, s.last, s.shard[0]) for s in plan.stages] == [(1, 3, "b"), (3, 5, "c")]
    places = [HostPort("10.0.0.7", 4000), HostPort("reef.example", 4001)]
    assert [s.address for s in plan.stages] == [Address(tls=place) for place in places]
    assert (plan.gateway, plan.gateway_address) == (gateway, ours)
    assert plan.data_offset == 77
    assert (plan.epoch, plan.n_slots, plan.context, plan.rows_max) == (Epoch(1, 2), 3, 64, 32)


def test_who_had_a_shard_before_lends_it() -> None:
    members, resting, other = [member(0), member(1)], member(2, host="reef.example"), member(3)
    resting.holds.add((1, 3))
    members[1].holds |= {(1, 3), (3, 5)}
    plan = make_plan(
        *(Epoch(1, 2), MANIFEST, cast_of(*members), OPTIONS),
        lenders=[*members, resting, other],
        gateway=(NodeId("9" * 64), Address()),
    )
    first, second = plan.stages
    assert [source.name for source in first.sources] == ["n1", "n2"]
    assert first.sources[1].address == Address(tls=HostPort("reef.example", 4002))
    # Its own node has it already.
    assert second.sources == ()
    lend = Lend(members[0].link.peer, MANIFEST.model, 1, 3)
    assert list(lends_of(plan)) == [(members[1].link.peer, lend), (resting.link.peer, lend)]


def test_the_last_stage_dials_as_it_did_before() -> None:
    key = Identity.generate()
    transport = Transport(key, LinkSettings(), "tls", None, "https://relay.example")
    by_tcp = own_address(member(0), transport, 8643)
    assert by_tcp == Address(tls=HostPort("10.0.0.1", 8643), relay="https://relay.example")
    by_udp = own_address(member(0, carrier="quic"), transport, 8643)
    assert by_udp == Address(relay="https://relay.example")


def test_more_or_fewer_members_than_shards_are_no_plan() -> None:
    with pytest.raises(ValueError, match="zip"):
        make_plan(
            Epoch(1, 1),
            MANIFEST,
            cast_of(member(0)),
            OPTIONS,
            gateway=(NodeId("9" * 64), Address()),
        )


@pytest.mark.parametrize(("second", "lanes"), [("one", 1), ("other", 3)])
def test_stages_on_one_machine_take_turns(second: str, lanes: int) -> None:
    config = coordinator_config([member(0), member(1, machine=second)], OPTIONS)
    assert config.lanes == lanes
    assert config.chunk_rows == config.exact_chunk_rows == 32
    assert config.credits == config.return_credits > config.n_slots == 3


def test_rows_travel_as_was_decided_and_exact_ones_whole() -> None:
    assert coordinator_config([member(0)], OPTIONS).encoding == F16_SCALED
    config = coordinator_config([member(0)], OPTIONS, encoding=I8_BLOCKS)
    assert (config.encoding, config.exact_encoding) == (I8_BLOCKS, F32)


def test_chunks_are_as_planned_or_as_told() -> None:
    def chunks(foretold: PlanReport | None = None, **options: Any) -> tuple[int, int, int]:
        asked = replace(OPTIONS, rows_max=512, **options)
        config = coordinator_config([member(0)], asked, foretold=foretold)
        return config.chunk_rows, config.beside_rows, config.prefill_in_flight

    planned = msgspec.structs.replace(
        plan(20.0, 5.0), chunk_rows=192, beside_rows=48, chunks_in_flight=7
    )
    assert chunks(planned) == (192, 48, 7)
    assert chunks() == (512, 128, 4)
    assert chunks(chunk_rows=64) == (64, 64, 4)
    assert chunks(chunk_ms=0) == (512, 0, 4)
