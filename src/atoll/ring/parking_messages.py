"""Events and effects of the `Coordinator` that are about parcels."""

from __future__ import annotations

from msgspec import Struct

from atoll.domain.ids import SessionId, Slot
from atoll.domain.wire import Discard, Resume
from atoll.ring.parking import ParkingRates

# Events


class ResumeReturned(Struct, frozen=True):
    """A resume has gone once round; its signature is ours."""

    resume: Resume


class DiscardReturned(Struct, frozen=True):
    """A discard has gone once round; its signature is ours."""

    discard: Discard


class EndsLoadedParcel(Struct, frozen=True):
    """The answer to `LoadEnds`: whether the parcel is in the slot."""

    session: SessionId
    is_loaded: bool


class Tick(Struct, frozen=True):
    """Some time has passed, always the same: what rests since two of them is parked.

    `rates` are what was measured meanwhile, if anything was.
    """

    rates: ParkingRates | None = None


# Effects


class ParkEnds(Struct, frozen=True):
    """Take a slot's first positions out of both ends and keep them; clear the slot."""

    session: SessionId
    slot: Slot
    tokens: int


class LoadEnds(Struct, frozen=True):
    """Load a parcel into both ends: `EndsLoadedParcel`. The session's items wait for it."""

    session: SessionId
    slot: Slot
    parcel: SessionId
    tokens: int


class DropEndsParcel(Struct, frozen=True):
    """Forget the ends' parcel."""

    parcel: SessionId


class SendPark(Struct, frozen=True):
    """Sign a `Park` of the current epoch and send it to the first stage."""

    session: SessionId
    slot: Slot
    tokens: int


class SendResume(Struct, frozen=True):
    """Sign a `Resume` of the current epoch and send it to the first stage."""

    session: SessionId
    slot: Slot
    parcel: SessionId
    tokens: int


class SendDiscard(Struct, frozen=True):
    """Sign a `Discard` of the current epoch and send it to the first stage."""

    parcel: SessionId


class Reused(Struct, frozen=True):
    """A parcel was loaded: so many tokens of an admitted session's prompt are computed."""

    session: SessionId
    cached: int


ParkingEvent = ResumeReturned | DiscardReturned | EndsLoadedParcel | Tick
ParkingOfEnds = ParkEnds | LoadEnds | DropEndsParcel
ParkingOrder = SendPark | SendResume | SendDiscard
ParkingEffect = ParkingOfEnds | ParkingOrder | Reused
