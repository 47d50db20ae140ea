"""What nodes report of their stages reaches the rings that they have a part in."""

from __future__ import annotations

from collections.abc import Sequence

from atoll.domain.control import SessionFailed
from atoll.domain.errors import AtollError
from atoll.domain.ids import NodeId
from atoll.gateway.ring import Ring
from atoll.members.fleet import Fleet


def hear_of_trouble(fleet: Fleet, rings: Sequence[Ring]) -> None:
    """Have every ring told; each knows what concerns it."""

    def lost(node: NodeId, error: AtollError) -> None:
        for ring in rings:
            ring.lost(node, error)

    def unlinked(node: NodeId, error: AtollError) -> None:
        for ring in rings:
            ring.unlinked(node, error)

    def session_failed(message: SessionFailed) -> None:
        for ring in rings:
            ring.session_failed(message)

    def fetched() -> None:
        for ring in rings:
            ring.fetched()

    fleet.on_lost = lost
    fleet.on_unlinked = unlinked
    fleet.on_session_failed = session_failed
    fleet.on_fetched = fetched
