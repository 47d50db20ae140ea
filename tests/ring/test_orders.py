"""Each effect of the coordinator has its message."""

from __future__ import annotations

import pytest

from atoll.domain.ids import Epoch, SessionId, Slot
from atoll.domain.wire import Cancel, Discard, Order, Park, Release, Resume, signed_part
from atoll.ring.coordinator_messages import SendCancel, SendRelease
from atoll.ring.orders import RingOrder, order_of
from atoll.ring.parking_messages import SendDiscard, SendPark, SendResume

EPOCH, ONE, TWO, SLOT = Epoch(1, 2), SessionId(5), SessionId(6), Slot(3)
ORDERS: list[tuple[RingOrder, Order]] = [
    (SendCancel(ONE, 7), Cancel(ONE, EPOCH, 7)),
    (SendRelease(ONE, SLOT), Release(ONE, SLOT, EPOCH)),
    (SendPark(ONE, SLOT, 9), Park(ONE, SLOT, EPOCH, 9)),
    (SendResume(TWO, SLOT, ONE, 9), Resume(TWO, SLOT, EPOCH, ONE, 9)),
    (SendDiscard(ONE), Discard(ONE, EPOCH)),
]


@pytest.mark.parametrize(("effect", "order"), ORDERS)
def test_an_effect_as_a_message(effect: RingOrder, order: Order) -> None:
    assert order_of(effect, EPOCH) == order


def test_no_two_orders_are_signed_alike() -> None:
    assert len({signed_part(order) for _, order in ORDERS}) == len(ORDERS)


def test_what_a_stage_says_is_not_signed() -> None:
    resume = Resume(TWO, SLOT, EPOCH, ONE, 9)
    said = Resume(TWO, SLOT, EPOCH, ONE, 9, lost=True, signature=bytes(64))
    assert signed_part(said) == signed_part(resume)
    assert signed_part(Resume(TWO, SLOT, EPOCH, ONE, 8)) != signed_part(resume)
