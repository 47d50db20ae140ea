"""The ends' parcels, what a ring may park, and what was seen to take how long."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import cast

import msgspec
import pytest
from tests.gateway.test_ring_plan import MANIFEST, OPTIONS, member

from atoll.domain.control import Plan
from atoll.domain.ids import Epoch, SessionId, Slot
from atoll.engine.ends_client import EndsProcess
from atoll.engine.parcel_messages import GivenIn, ParcelOrder, PutIn, TakenOut, TakeOut
from atoll.gateway.casting import Cast
from atoll.gateway.parking import EndsParking, parking_of, shared_out
from atoll.gateway.ring_plan import make_plan
from atoll.members.member import Member
from atoll.node.keeping import Keeping
from atoll.ring.coordinator_messages import CoordinatorEvent
from atoll.ring.parking import ParkingRates
from atoll.ring.parking_messages import DropEndsParcel, EndsLoadedParcel, LoadEnds, ParkEnds

KEEPING = Keeping(ram_bytes=1000)
RING = replace(OPTIONS, keeping=KEEPING)
ONE, TWO, SLOT = SessionId(1), SessionId(2), Slot(0)


def keeps(place: int, keeps_bytes: int) -> Member:
    found = member(place)
    found.join = msgspec.structs.replace(found.join, keeps_bytes=keeps_bytes)
    return found


def plan_of(members: list[Member]) -> Plan:
    cast_ = Cast(tuple(members), MANIFEST.shards)
    gateway = (members[0].link.peer, members[0].join.address)
    return make_plan(Epoch(3, 4), MANIFEST, cast_, RING, gateway=gateway)


def test_who_has_least_room_bounds_what_is_parked() -> None:
    # A byte a token and layer: two layers on each node, two at the ends.
    members = [keeps(0, 300), keeps(1, 500)]
    found = parking_of(MANIFEST, plan_of(members), RING, members)
    assert found is not None
    assert found.held_max == 150
    assert found.rates.bytes_per_token == 6
    several = parking_of(MANIFEST, plan_of(members), replace(RING, rings=10), members)
    assert several is not None
    assert several.held_max == 50


def test_lent_memory_is_room_for_those_who_know_of_it() -> None:
    members = [keeps(0, 300), keeps(1, 500)]
    new = [keeps(0, 300), keeps(1, 500)]
    for one in new:
        one.join = msgspec.structs.replace(one.join, borrows_memory=True)
    for some, held in ((new, 350), ([members[0], new[1]], 150)):
        found = parking_of(MANIFEST, plan_of(some), RING, some, 400)
        assert found is not None
        assert found.held_max == held


@pytest.mark.parametrize(
    ("keeping", "node_bytes", "reuse"),
    [(Keeping(), 100, True), (KEEPING, 0, True), (KEEPING, 100, False)],
)
def test_without_memory_everywhere_nothing_is_parked(
    keeping: Keeping, node_bytes: int, reuse: bool
) -> None:
    members = [keeps(0, 100), keeps(1, node_bytes)]
    options = replace(RING, keeping=keeping, reuse=reuse)
    assert parking_of(MANIFEST, plan_of(members), options, members) is None


def test_rings_share() -> None:
    assert shared_out(Keeping(100, 60), 4) == Keeping(25, 15)


class Process:
    """Takes orders."""

    def __init__(self) -> None:
        self.orders: list[ParcelOrder] = []

    def order_parcel(self, order: ParcelOrder, parcel: bytes = b"") -> None:
        self.orders.append(order)


@pytest.fixture
def process() -> Process:
    return Process()


@pytest.fixture
def parking(process: Process) -> EndsParking:
    plan = plan_of([keeps(0, 1), keeps(1, 1)])
    return EndsParking(plan, RING, 0, cast(EndsProcess, process))


async def test_parcels_of_the_ends(process: Process, parking: EndsParking) -> None:
    told: asyncio.Queue[CoordinatorEvent] = asyncio.Queue()
    running = asyncio.get_running_loop().create_task(parking.run())
    parking.carry_out(ParkEnds(ONE, SLOT, 9), told.put_nowait)
    parking.answered(TakenOut(ONE), b"sealed")
    parking.carry_out(LoadEnds(TWO, SLOT, ONE, 9), told.put_nowait)
    async with asyncio.timeout(10):
        while len(process.orders) < 2:
            await asyncio.sleep(0.01)
        parking.answered(GivenIn(ONE), b"")
        assert await told.get() == EndsLoadedParcel(TWO, True)
        assert parking.held_bytes == 6
        parking.carry_out(DropEndsParcel(ONE), told.put_nowait)
        while parking.held_bytes:
            await asyncio.sleep(0.01)
        parking.carry_out(LoadEnds(TWO, SLOT, ONE, 9), told.put_nowait)
        assert await told.get() == EndsLoadedParcel(TWO, False)
    assert [type(order) for order in process.orders] == [TakeOut, PutIn]
    running.cancel()
    await asyncio.wait([running])
    parking.close()


def test_what_prompts_were_seen_to_take(parking: EndsParking) -> None:
    before = ParkingRates(6.0, 1e9, 200.0)
    assert parking.rates(before) == before
    parking.prompt_waits(ONE, 110)
    parking.prompt_enters(ONE, 0, now_s=1.0)
    parking.prompt_enters(ONE, 10, now_s=2.0)
    assert parking.prompt_over(ONE, is_computed=True, now_s=3.0) == 10
    assert parking.rates(before).prefill_tokens_s == 100
    parking.prompt_waits(TWO, 200)
    parking.prompt_enters(TWO, 0, now_s=3.0)
    parking.prompt_over(TWO, is_computed=True, now_s=4.0)
    assert parking.rates(before).prefill_tokens_s == pytest.approx(130)
    # Neither short ones nor those that failed tell of it.
    for session, tokens, computed in ((ONE, 20, True), (TWO, 900, False)):
        parking.prompt_waits(session, tokens)
        parking.prompt_enters(session, 0, now_s=5.0)
        parking.prompt_over(session, is_computed=computed, now_s=6.0)
    assert parking.prompt_over(ONE, is_computed=True) == 0
    assert parking.rates(before).prefill_tokens_s == pytest.approx(130)
