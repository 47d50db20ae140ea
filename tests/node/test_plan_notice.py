"""Which plans a node follows; tests/node/test_daemon.py shows what becomes of the others."""

from __future__ import annotations

import msgspec
import pytest

from atoll.domain.address import Address
from atoll.domain.control import Plan, PlanNotice, plan_signed_part
from atoll.domain.errors import ProtocolFault
from atoll.domain.ids import Epoch, ModelId, NodeId
from atoll.net.identity import Identity
from atoll.node.plan_notice import checked_plan

GATEWAY = Identity.generate()


def notice(plan: Plan | bytes, signer: Identity = GATEWAY) -> PlanNotice:
    encoded = plan if isinstance(plan, bytes) else msgspec.msgpack.encode(plan)
    return PlanNotice(encoded, signer.sign(plan_signed_part(encoded)))


def a_plan(gateway: NodeId = GATEWAY.node_id) -> Plan:
    return Plan(
        epoch=Epoch(2, 3),
        model=ModelId("a" * 64),
        architecture="llama",
        n_layers=6,
        n_embd=8,
        n_slots=1,
        context=64,
        rows_max=8,
        gateway=gateway,
        gateway_address=Address(),
        stages=(),
    )


@pytest.mark.parametrize("newest", [None, Epoch(2, 2), Epoch(1, 9)])
def test_a_newer_one_of_the_gateway_is_taken(newest: Epoch | None) -> None:
    assert checked_plan(notice(a_plan()), GATEWAY.node_id, newest) == a_plan()


@pytest.mark.parametrize(
    ("came", "newest", "problem"),
    [
        (notice(a_plan(), Identity.generate()), None, "without the gateway's signature"),
        (PlanNotice(notice(a_plan()).plan, b""), None, "without the gateway's signature"),
        (notice(b"\xc1"), None, "cannot be read"),
        (notice(b"\x81\xa5epoch\x92\x01\xa1\xff"), None, "cannot be read"),
        (notice(b"\x81\xa1\xff\xc0"), None, "cannot be read"),
        (notice(b"\x81\xa1a" + b"\x91" * 100_000 + b"\xc0"), None, "cannot be read"),
        (notice(a_plan()), Epoch(2, 3), "is not above"),
        (notice(a_plan()), Epoch(3, 0), "is not above"),
        (notice(a_plan(NodeId("9" * 64))), None, "names another gateway"),
    ],
)
def test_others_are_not(came: PlanNotice, newest: Epoch | None, problem: str) -> None:
    with pytest.raises(ProtocolFault, match=problem):
        checked_plan(came, GATEWAY.node_id, newest)
