"""Events and effects of the `Coordinator` that are about parts of the ring that were lost."""

from __future__ import annotations

from msgspec import Struct

from atoll.domain.ids import SessionId, Slot
from atoll.domain.wire import Rejoin, Window


class RingPaused(Struct, frozen=True):
    """A part of the ring is lost and will be replaced; what was on its way is gone."""


class RejoinReturned(Struct, frozen=True):
    """A rejoin has gone once round; its signature is ours."""

    rejoin: Rejoin


class SendRecord(Struct, frozen=True):
    """Send these rows of a session to the first stage as they were sent before."""

    window: Window


class SendRejoin(Struct, frozen=True):
    """Sign a `Rejoin` of the current epoch and send it to the first stage."""

    session: SessionId
    slot: Slot
    tokens: int


ComebackEffect = SendRecord | SendRejoin
