"""What is said of parcels to a stage process and to the ends alike."""

from __future__ import annotations

import msgspec


class TakeOut(msgspec.Struct, frozen=True, tag="take_out"):
    """Make a parcel of a slot's first `tokens` positions and empty the slot.

    `label` says which parcel of which model, layers and epoch it is: it is loaded again
    under the same alone. `parcel` is only for the answer.
    """

    slot: int
    parcel: int
    tokens: int
    label: bytes


class PutIn(msgspec.Struct, frozen=True, tag="put_in"):
    """Load a parcel, the payload, into a slot."""

    slot: int
    parcel: int
    tokens: int
    label: bytes


class TakenOut(msgspec.Struct, frozen=True, tag="taken_out"):
    """The answer to `TakeOut`; the payload is the parcel, unless there is a problem."""

    parcel: int
    problem: str = ""


class GivenIn(msgspec.Struct, frozen=True, tag="given_in"):
    """The answer to `PutIn`: where there is a problem the slot is empty."""

    parcel: int
    problem: str = ""


ParcelOrder = TakeOut | PutIn
ParcelAnswer = TakenOut | GivenIn
