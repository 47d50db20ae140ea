"""Events and effects of the `Coordinator` that are about parcels."""

from __future__ import annotations

from dataclasses import dataclass

from atoll.domain.ids import SessionId, Slot
from atoll.domain.wire import Resume
from atoll.ring.parking import ParkingRates

# Events


@dataclass(frozen=True, slots=True)
class ResumeReturned:
    """A resume has gone once round; its signature is ours."""

    resume: Resume


@dataclass(frozen=True, slots=True)
class EndsLoadedParcel:
    """The answer to `LoadEnds`: whether the parcel is in the slot."""

    session: SessionId
    is_loaded: bool


@dataclass(frozen=True, slots=True)
class Tick:
    """Some time has passed, always the same: what rests since two of them is parked.

    `rates` are what was measured meanwhile, if anything was.
    """

    rates: ParkingRates | None = None


# Effects


@dataclass(frozen=True, slots=True)
class ParkEnds:
    """Take a slot's first positions out of both ends and keep them; clear the slot."""

    session: SessionId
    slot: Slot
    tokens: int


@dataclass(frozen=True, slots=True)
class LoadEnds:
    """Load a parcel into both ends: `EndsLoadedParcel`. The session's items wait for it."""

    session: SessionId
    slot: Slot
    parcel: SessionId
    tokens: int


@dataclass(frozen=True, slots=True)
class DropEndsParcel:
    """Forget the ends' parcel."""

    parcel: SessionId


@dataclass(frozen=True, slots=True)
class SendPark:
    """Sign a `Park` of the current epoch and send it to the first stage."""

    session: SessionId
    slot: Slot
    tokens: int


@dataclass(frozen=True, slots=True)
class SendResume:
    """Sign a `Resume` of the current epoch and send it to the first stage."""

    session: SessionId
    slot: Slot
    parcel: SessionId
    tokens: int


@dataclass(frozen=True, slots=True)
class SendDiscard:
    """Sign a `Discard` of the current epoch and send it to the first stage."""

    parcel: SessionId


@dataclass(frozen=True, slots=True)
class Reused:
    """A parcel was loaded: so many tokens of an admitted session's prompt are computed."""

    session: SessionId
    cached: int


ParkingEvent = ResumeReturned | EndsLoadedParcel | Tick
ParkingOfEnds = ParkEnds | LoadEnds | DropEndsParcel
ParkingOrder = SendPark | SendResume | SendDiscard
ParkingEffect = ParkingOfEnds | ParkingOrder | Reused
