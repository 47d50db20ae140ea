"""What a ring that does not form waits for; whole formations are in test_conductor.py."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import msgspec
import pytest
from tests.gateway.test_ring_plan import MANIFEST, OPTIONS, cast_of, member

from atoll.domain.address import Address, HostPort
from atoll.domain.control import Ready
from atoll.domain.ids import Epoch, NodeId
from atoll.gateway.formation import Formation
from atoll.gateway.ring_plan import make_plan
from atoll.net.identity import Identity
from atoll.net.transport import open_transport

pytestmark = pytest.mark.network


class Quiet:
    """A fleet that nobody listens to, and a driver that nothing is asked of."""

    def send(self, _node: NodeId, _message: object) -> None:
        """Nobody hears it."""

    def announce(self, *_args: object) -> None:
        """Nobody hears it."""

    def take_first(self, _link: object) -> None:
        """It does not come to that."""


async def test_who_is_late_is_named() -> None:
    members = [member(0), member(1)]
    plan = make_plan(
        *(Epoch(1, 1), MANIFEST, cast_of(*members), OPTIONS),
        gateway=(NodeId("9" * 64), Address()),
    )
    nothing = cast(Any, None)
    formation = Formation(plan, members, nothing, nothing, nothing)
    assert formation.obstacle == ": n0, n1 did not get ready"
    members[0].ready = Ready(Epoch(1, 1), 1, 1, 1.0)
    assert formation.obstacle == ": n1 did not get ready"
    members[1].ready = members[0].ready
    assert formation.obstacle == ""


async def test_a_first_stage_that_cannot_be_dialled_is_named() -> None:
    one, two = member(0), member(1)
    plan = make_plan(
        *(Epoch(1, 1), MANIFEST, cast_of(one, two), OPTIONS),
        gateway=(NodeId("9" * 64), Address()),
    )
    closed = Address(tls=HostPort("127.0.0.1", 1))
    stages = (msgspec.structs.replace(plan.stages[0], address=closed), plan.stages[1])
    plan = msgspec.structs.replace(plan, stages=stages)
    async with open_transport(Identity.generate(), way="tls") as transport:
        quiet = cast(Any, Quiet())
        formation = Formation(plan, [one, two], quiet, quiet, transport)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await formation.run(Identity.generate())
    assert "nobody listens at 127.0.0.1:1" in formation.obstacle
