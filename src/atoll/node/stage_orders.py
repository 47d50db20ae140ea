"""What the gateway's orders mean to a stage's machine, and what it wants done with parcels."""

from __future__ import annotations

from collections.abc import Callable

from atoll.domain.ids import SessionId
from atoll.domain.wire import Cancel, Discard, Order, Rejoin, Resume
from atoll.node.parcels import Parcels
from atoll.ring.stage_messages import (
    CancelArrived,
    DiscardArrived,
    DropParcel,
    FetchParcel,
    LoadParcel,
    ParcelEffect,
    ParcelFetched,
    ParcelLoaded,
    RejoinArrived,
    ReleaseArrived,
    ResumeArrived,
    StageEvent,
    TakeParcel,
)


def event_of(order: Order) -> StageEvent:
    """The event of an order whose signature was checked."""
    match order:
        case Cancel():
            return CancelArrived(order)
        case Resume():
            return ResumeArrived(order)
        case Rejoin():
            return RejoinArrived(order)
        case Discard():
            return DiscardArrived(order)
        case _:
            return ReleaseArrived(order)


def names_of(order: Order) -> tuple[SessionId, int]:
    """The session that an order is about and the number of its window, 0 if it has none."""
    if isinstance(order, Discard):
        return order.parcel, 0
    return order.session, order.seq if isinstance(order, Cancel) else 0


def carry_out(effect: ParcelEffect, parcels: Parcels, tell: Callable[[StageEvent], None]) -> None:
    """Do what the machine wants done with a parcel; `tell` it what became of that."""
    match effect:
        case TakeParcel(slot, parcel, tokens):
            parcels.take_out(slot, parcel, tokens)
        case FetchParcel(session, parcel):
            parcels.bring(parcel, lambda data: tell(ParcelFetched(session, data)))
        case LoadParcel(session, slot, parcel, tokens, data):
            parcels.put_in(
                *(slot, parcel, tokens, bytes(data)),
                then=lambda loaded: tell(ParcelLoaded(session, loaded)),
            )
        case DropParcel(parcel):
            parcels.drop(parcel)
