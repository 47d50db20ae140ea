"""What a stage tells of frames that it cannot take: who sent them, and the gateway."""

from __future__ import annotations

import logging
from collections.abc import Callable

from atoll.domain.control import Plan, SessionFailed
from atoll.domain.errors import ProtocolFault
from atoll.domain.ids import NO_SESSION, SessionId
from atoll.domain.wire import Order, Refused, signed_part
from atoll.net.identity import verify
from atoll.net.link import DataLink, UnusableFrame
from atoll.node.stage_orders import names_of
from atoll.ring.messages import Refuse

log = logging.getLogger(__name__)

NAMELESS_MAX = 16
"""Frames of which not even the session can be read that a link may carry."""
REFUSED_MAX = 4096
"""Frames that may be refused before their sender is taken to be out of its mind; a
session that is refused may have as many on their way as there are credits."""
PROBLEM_CHARS_MAX = 500


class Complaints:
    """Those of one stage.

    Args:
        plan: The plan it serves; the newest one is to be set.
        upstream: The link of who sends to it, if it stands.
        report: Takes what the gateway is to know.
    """

    def __init__(
        self,
        plan: Plan,
        upstream: Callable[[], DataLink | None],
        report: Callable[[SessionFailed], None],
    ) -> None:
        self.plan = plan
        self._upstream = upstream
        self._report = report
        self._nameless = 0
        self._refused = 0

    def refuse(self, refusal: Refuse) -> None:
        """Answer a window that the stage did not take.

        Raises:
            ProtocolFault: There were too many.
        """
        self._refused += 1
        if self._refused > REFUSED_MAX:
            raise ProtocolFault(
                f"{REFUSED_MAX} frames of the upstream were refused; the last: {refusal.problem}"
            )
        seq = max(0, refusal.seq)  # a release has no number, the wire no negative one
        said = (refusal.session, seq, refusal.code, refusal.problem)
        if (upstream := self._upstream()) is not None:
            upstream.send(Refused(*said))
        if refusal.report:
            self._report(SessionFailed(self.plan.epoch, *said))

    def is_ordered(self, order: Order) -> bool:
        """Whether the gateway gave the order; if not, its sender is told and it is reported.

        The session that a forged order names is not ended: it did nothing wrong.
        """
        if verify(self.plan.gateway, order.signature, signed_part(order)):
            return True
        problem = f"a {type(order).__name__.lower()} came without the gateway's signature"
        self._answer(*names_of(order), "signature", problem)
        return False

    def nameless(self, fault: UnusableFrame) -> None:
        """Answer a frame that names no session; with too many of them `fault` is raised."""
        self._nameless += 1
        if self._nameless > NAMELESS_MAX:
            raise fault
        self._answer(NO_SESSION, 0, "frame", fault.problem)

    def _answer(self, session: SessionId, seq: int, code: str, problem: str) -> None:
        """Tell the upstream and the gateway of a frame for which no session is to end."""
        log.warning("stage.refused session=%d code=%s problem=%s", session, code, problem)
        said = (seq, code, problem[:PROBLEM_CHARS_MAX])
        if (upstream := self._upstream()) is not None:
            upstream.send(Refused(session, *said))
        self._report(SessionFailed(self.plan.epoch, NO_SESSION, *said))
