"""Parcels between an engine and its keepers, whatever comes first and whatever gets lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from atoll.domain.ids import SessionId, Slot
from atoll.engine.parcel_messages import GivenIn, ParcelOrder, PutIn, TakenOut, TakeOut
from atoll.node import parcels as module
from atoll.node.keeping import RamKeeper
from atoll.node.parcels import Parcels

ONE, TWO, SLOT = SessionId(1), SessionId(2), Slot(0)


class Keeper(RamKeeper):
    """One that can be held up."""

    def __init__(self) -> None:
        super().__init__(100)
        self.open = asyncio.Event()
        self.open.set()

    async def put(self, name: str, blob: bytes) -> bool:
        await self.open.wait()
        return await super().put(name, blob)

    async def get(self, name: str) -> bytes | None:
        await self.open.wait()
        return await super().get(name)


@dataclass
class Desk:
    keeper: Keeper = field(default_factory=Keeper)
    orders: list[tuple[ParcelOrder, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.parcels = Parcels(
            self.keeper, lambda order, data: self.orders.append((order, data)), "model|1-2|3.4"
        )

    async def brought(self, parcel: SessionId) -> bytes | None:
        found: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self.parcels.bring(parcel, found.set_result)
        async with asyncio.timeout(10):
            return await found


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    found = Desk()
    running = asyncio.get_running_loop().create_task(found.parcels.run())
    yield found
    running.cancel()
    await asyncio.wait([running])


async def settled(desk: Desk) -> None:
    """Let everything that waits be put away."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_out_kept_brought_and_in(desk: Desk) -> None:
    desk.parcels.take_out(SLOT, ONE, 9)
    [(order, _)] = desk.orders
    assert order == TakeOut(SLOT, ONE, 9, b"model|1-2|3.4|1")
    desk.parcels.answered(TakenOut(ONE), b"sealed")
    await settled(desk)
    assert desk.keeper.held_bytes == 6
    assert desk.parcels.bytes_per_s > 0
    assert await desk.brought(ONE) == b"sealed"
    loaded: list[bool] = []
    desk.parcels.put_in(SLOT, ONE, 9, b"sealed", loaded.append)
    assert desk.orders[1] == (PutIn(SLOT, ONE, 9, b"model|1-2|3.4|1"), b"sealed")
    desk.parcels.answered(GivenIn(ONE), b"")
    desk.parcels.put_in(SLOT, ONE, 9, b"changed", loaded.append)
    desk.parcels.answered(GivenIn(ONE, "the parcel was changed"), b"")
    assert loaded == [True, False]
    desk.parcels.drop(ONE)
    await settled(desk)
    assert desk.keeper.held_bytes == 0
    assert await desk.brought(ONE) is None


async def test_what_is_wanted_before_it_is_made_or_put_away(desk: Desk) -> None:
    desk.parcels.take_out(SLOT, ONE, 9)
    found: list[bytes | None] = []
    desk.parcels.bring(ONE, found.append)
    await settled(desk)
    assert found == []
    desk.parcels.answered(TakenOut(ONE), b"sealed")
    assert found == [b"sealed"]
    desk.keeper.open.clear()
    desk.parcels.take_out(SLOT, TWO, 9)
    desk.parcels.answered(TakenOut(TWO), b"other")
    assert await desk.brought(TWO) == b"other"


async def test_what_is_dropped_before_it_is_made_is_never_kept(desk: Desk) -> None:
    desk.parcels.take_out(SLOT, ONE, 9)
    desk.parcels.drop(ONE)
    desk.parcels.answered(TakenOut(ONE), b"sealed")
    await settled(desk)
    assert desk.keeper.held_bytes == 0


async def test_what_the_engine_does_not_give_is_lost(desk: Desk) -> None:
    desk.parcels.take_out(SLOT, ONE, 9)
    found: list[bytes | None] = []
    desk.parcels.bring(ONE, found.append)
    desk.parcels.answered(TakenOut(ONE, "too large"), b"")
    assert found == [None]
    assert await desk.brought(ONE) is None


async def test_answers_of_an_epoch_before_are_nobodys(desk: Desk) -> None:
    loaded: list[bool] = []
    desk.parcels.answered(GivenIn(TWO), b"")
    desk.parcels.put_in(SLOT, ONE, 9, b"sealed", loaded.append)
    desk.parcels.answered(GivenIn(TWO), b"")
    desk.parcels.answered(TakenOut(TWO), b"sealed")
    assert loaded == []
    desk.parcels.answered(GivenIn(ONE), b"")
    assert loaded == [True]
    await settled(desk)
    assert desk.keeper.held_bytes == 0


async def test_a_keeper_that_hangs_holds_nobody_up_for_ever(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BRING_S", 0.05)
    monkeypatch.setattr(module, "KEEP_S", 0.05)
    desk.keeper.open.clear()
    assert await desk.brought(ONE) is None
    desk.parcels.take_out(SLOT, TWO, 9)
    desk.parcels.answered(TakenOut(TWO), b"sealed")
    async with asyncio.timeout(10):
        while await desk.brought(TWO) is not None:
            await asyncio.sleep(0.01)
    desk.keeper.open.set()
    assert await desk.brought(TWO) is None


async def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING_MAX", 2)
    monkeypatch.setattr(module, "WAITING_BYTES_MAX", 10)
    desk = Desk()  # nobody puts anything away
    found: list[bytes | None] = []
    for _ in range(3):
        desk.parcels.bring(ONE, found.append)
    assert found == [None]
    for parcel, size in ((ONE, 6), (TWO, 6), (SessionId(3), 4), (SessionId(4), 0)):
        desk.parcels.take_out(SLOT, parcel, 9)
        desk.parcels.answered(TakenOut(parcel), b"x" * size)
    assert desk.parcels._changes.qsize() == 2
    assert desk.parcels._unkept_bytes == 10
