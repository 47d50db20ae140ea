"""One ring on its way from a plan to its first window: announced, dialled, loaded, linked."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import msgspec

from atoll.domain.control import Plan, PlanNotice, StagePlan, plan_signed_part
from atoll.domain.errors import LinkFault
from atoll.gateway.ring_driver import RingDriver
from atoll.gateway.ring_plan import lends_of
from atoll.members.fleet import Fleet
from atoll.members.member import Member
from atoll.net.identity import Identity
from atoll.net.link import DataLink
from atoll.net.transport import Transport

log = logging.getLogger(__name__)

REDIAL_S = 0.1


class Formation:
    """Makes a plan's ring; its caller bounds the time.

    Args:
        plan: The plan.
        members: Who has a part, in ring order.
        driver: The ring's coordinator.
        fleet: All nodes.
        transport: Dials the first stage.
    """

    def __init__(
        self,
        plan: Plan,
        members: Sequence[Member],
        driver: RingDriver,
        fleet: Fleet,
        transport: Transport,
    ) -> None:
        self._plan = plan
        self._members = members
        self._driver = driver
        self._fleet = fleet
        self._transport = transport
        self.notice: PlanNotice | None = None
        """The plan as it was announced."""
        self._dial_fault: LinkFault | None = None
        self._last_linked = asyncio.Event()

    async def run(self, identity: Identity) -> None:
        """Announce the plan, signed by `identity`, and wait until windows can go round."""
        plan = self._plan
        encoded = msgspec.msgpack.encode(plan)
        signature = identity.sign(plan_signed_part(encoded))
        for lender, lend in lends_of(plan):
            self._fleet.send(lender, lend)
        self.notice = PlanNotice(encoded, signature)
        self._fleet.announce(self.notice, plan.epoch, self._members)
        self._driver.take_first(await self._dial_first(plan.stages[0]))
        await self._fleet.wait_ready(plan.epoch, self._members)
        for member, stage in zip(self._members, plan.stages, strict=True):
            member.holds.add((stage.first, stage.last))
        while not self._driver.linked:
            self._last_linked.clear()
            await self._last_linked.wait()

    def take_last(self, link: DataLink) -> None:
        """The last stage has dialled."""
        self._driver.take_last(link)
        self._last_linked.set()

    @property
    def obstacle(self) -> str:
        """What a ring that does not form seems to wait for."""
        if self._dial_fault is not None:
            return f": {self._dial_fault}"
        late = [m.name for m in self._members if m.ready is None]
        return f": {', '.join(late)} did not get ready" if late else ""

    async def _dial_first(self, stage: StagePlan) -> DataLink:
        """Dial the first stage until it knows the plan too."""
        while True:
            try:
                link = await self._transport.dial_data(stage.address, expected=stage.node)
                self._dial_fault = None
                return link
            except LinkFault as fault:
                self._dial_fault = fault
                log.info("formation.dial_again node=%s problem=%s", stage.name, fault)
                await asyncio.sleep(REDIAL_S)
