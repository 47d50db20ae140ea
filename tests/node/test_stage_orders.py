"""Orders as events, and effects on parcels as calls whose answers are events."""

from __future__ import annotations

from typing import Any

import pytest

from atoll.domain.ids import Epoch, SessionId, Slot
from atoll.domain.wire import Cancel, Discard, Order, Park, Release, Resume
from atoll.engine.parcel_messages import GivenIn, ParcelOrder, PutIn, TakenOut, TakeOut
from atoll.node.keeping import Tiers
from atoll.node.parcels import Parcels
from atoll.node.stage_orders import carry_out, event_of, names_of
from atoll.ring.stage_messages import (
    CancelArrived,
    DiscardArrived,
    DropParcel,
    FetchParcel,
    LoadParcel,
    ParcelFetched,
    ParcelLoaded,
    ReleaseArrived,
    ResumeArrived,
    StageEvent,
    TakeParcel,
)

EPOCH, ONE, TWO, SLOT = Epoch(1, 2), SessionId(5), SessionId(6), Slot(3)


@pytest.mark.parametrize(
    ("order", "kind", "names"),
    [
        (Cancel(ONE, EPOCH, 7), CancelArrived, (ONE, 7)),
        (Release(ONE, SLOT, EPOCH), ReleaseArrived, (ONE, 0)),
        (Park(ONE, SLOT, EPOCH, 9), ReleaseArrived, (ONE, 0)),
        (Resume(TWO, SLOT, EPOCH, ONE, 9), ResumeArrived, (TWO, 0)),
        (Discard(ONE, EPOCH), DiscardArrived, (ONE, 0)),
    ],
)
def test_an_order_is_an_event(order: Order, kind: Any, names: tuple[int, int]) -> None:
    assert event_of(order) == kind(order)
    assert names_of(order) == names


def test_what_the_machine_wants_is_done_and_told() -> None:
    orders: list[ParcelOrder] = []
    parcels = Parcels(Tiers([]), lambda order, _data: orders.append(order), "label")
    told: list[StageEvent] = []
    carry_out(TakeParcel(SLOT, ONE, 9), parcels, told.append)
    carry_out(FetchParcel(TWO, ONE), parcels, told.append)
    parcels.answered(TakenOut(ONE), b"sealed")
    carry_out(LoadParcel(TWO, SLOT, ONE, 9, b"sealed"), parcels, told.append)
    parcels.answered(GivenIn(ONE), b"")
    carry_out(DropParcel(ONE), parcels, told.append)
    assert [type(order) for order in orders] == [TakeOut, PutIn]
    assert told == [ParcelFetched(TWO, b"sealed"), ParcelLoaded(TWO, True)]
