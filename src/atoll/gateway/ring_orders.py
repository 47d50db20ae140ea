"""The gateway's orders to a ring: signed when they leave, checked when they come back."""

from __future__ import annotations

import msgspec

from atoll.domain.errors import ProtocolFault
from atoll.domain.ids import Epoch
from atoll.domain.wire import Cancel, Order, signed_part
from atoll.net.identity import Identity
from atoll.ring.coordinator_messages import CoordinatorEvent
from atoll.ring.orders import RingOrder, event_of, order_of


def signed(effect: RingOrder, epoch: Epoch, identity: Identity) -> Order:
    """The message of an effect, signed."""
    order = order_of(effect, epoch)
    return msgspec.structs.replace(order, signature=identity.sign(signed_part(order)))


def returned(order: Order, identity: Identity) -> CoordinatorEvent | None:
    """What it means that an order has been everywhere; None: nothing is left to do.

    Raises:
        ProtocolFault: It is no order of ours, or something in it was changed that must not be.
    """
    if isinstance(order, Cancel):
        return None
    if order.signature != identity.sign(signed_part(order)):
        raise ProtocolFault(f"a {type(order).__name__.lower()} came back changed")
    return event_of(order)
