"""Orders are signed, and come back as they left but for what stages may say."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from atoll.domain.errors import ProtocolFault
from atoll.domain.ids import Epoch, SessionId, Slot
from atoll.domain.wire import Discard, Park, Release, Resume, signed_part
from atoll.gateway.ring_orders import returned, signed
from atoll.net.identity import Identity, verify
from atoll.ring.coordinator_messages import ReleaseReturned, SendCancel, SendRelease
from atoll.ring.parking_messages import (
    DiscardReturned,
    ResumeReturned,
    SendDiscard,
    SendPark,
    SendResume,
)

EPOCH, ONE, TWO, SLOT = Epoch(1, 2), SessionId(5), SessionId(6), Slot(3)
OURS = Identity.generate()


def test_what_has_been_everywhere() -> None:
    for effect, kind in ((SendRelease(ONE, SLOT), Release), (SendPark(ONE, SLOT, 9), Park)):
        order = signed(effect, EPOCH, OURS)
        assert isinstance(order, kind)
        assert verify(OURS.node_id, order.signature, signed_part(order))
        assert returned(order, OURS) == ReleaseReturned(order)
    resume = signed(SendResume(TWO, SLOT, ONE, 9), EPOCH, OURS)
    assert isinstance(resume, Resume)
    for order in (resume, msgspec.structs.replace(resume, lost=True)):
        assert returned(order, OURS) == ResumeReturned(order)
    discard = signed(SendDiscard(ONE), EPOCH, OURS)
    assert isinstance(discard, Discard)
    assert returned(discard, OURS) == DiscardReturned(discard)
    assert returned(signed(SendCancel(ONE, 7), EPOCH, OURS), OURS) is None


@pytest.mark.parametrize(
    "changes", [{"tokens": 8}, {"session": ONE}, {"parcel": TWO}, {"signature": bytes(64)}]
)
def test_what_was_changed_is_no_order_of_ours(changes: dict[str, Any]) -> None:
    order = msgspec.structs.replace(signed(SendResume(TWO, SLOT, ONE, 9), EPOCH, OURS), **changes)
    with pytest.raises(ProtocolFault, match="a resume came back changed"):
        returned(order, OURS)
    with pytest.raises(ProtocolFault, match="a park came back changed"):
        returned(signed(SendPark(ONE, SLOT, 9), EPOCH, Identity.generate()), OURS)
