"""What the coordinator wants said round the ring, as messages, and their coming back."""

from __future__ import annotations

from atoll.domain.ids import Epoch
from atoll.domain.wire import Cancel, Discard, Order, Park, Rejoin, Release, Resume
from atoll.ring.comeback_messages import RejoinReturned, SendRejoin
from atoll.ring.coordinator_messages import (
    CoordinatorEvent,
    ReleaseReturned,
    SendCancel,
    SendRelease,
)
from atoll.ring.parking_messages import (
    DiscardReturned,
    ParkingOrder,
    ResumeReturned,
    SendDiscard,
    SendPark,
    SendResume,
)

RingOrder = SendCancel | SendRelease | SendRejoin | ParkingOrder


def order_of(effect: RingOrder, epoch: Epoch) -> Order:
    """The message of an effect, without its signature."""
    match effect:
        case SendCancel(session, seq):
            return Cancel(session, epoch, seq)
        case SendRelease(session, slot):
            return Release(session, slot, epoch)
        case SendRejoin(session, slot, tokens):
            return Rejoin(session, slot, epoch, tokens)
        case SendPark(session, slot, tokens):
            return Park(session, slot, epoch, tokens)
        case SendResume(session, slot, parcel, tokens):
            return Resume(session, slot, epoch, parcel, tokens)
        case SendDiscard(parcel):
            return Discard(parcel, epoch)


def event_of(order: Order) -> CoordinatorEvent | None:
    """What it means that a message has gone once round; None: nothing is left to do."""
    match order:
        case Cancel():
            return None
        case Rejoin():
            return RejoinReturned(order)
        case Resume():
            return ResumeReturned(order)
        case Discard():
            return DiscardReturned(order)
        case Release() | Park():
            return ReleaseReturned(order)
