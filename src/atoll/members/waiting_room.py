"""Nodes that come without a ticket: they wait until both ends have compared a code.

A node is enrolled when its owner and the operator have both said that the codes
are equal, and not before. Everything is bounded: who waits, from where, for how
long, and how often anybody may try, since every attempt is one guess at a code.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from atoll.domain.control import (
    Approved,
    CodeConfirmed,
    ControlMessage,
    Knock,
    KnockAnswer,
    Leave,
    Refusal,
    Reveal,
)
from atoll.domain.errors import AtollError, LinkFault, ProtocolFault
from atoll.domain.ids import NodeId
from atoll.members.knocks import Decision, Knocks, WaitingNode
from atoll.members.register import NAME_CHARS_MAX, Register
from atoll.net.link import ControlLink, peer_text
from atoll.net.pairing import NONCE_BYTES, WAIT_S, code_of, commitment_to

log = logging.getLogger(__name__)

WAITING_MAX = 16
WAITING_PER_HOST_MAX = 4
REVEAL_S = 10.0
"""How long a node may take to tell its nonce."""
ATTEMPTS_MAX = 8
"""Knocks that may come at once, after a quiet time."""
ATTEMPT_EVERY_S = 10.0
"""One more every so often. In the time that a code is good somebody between two
machines has 38 attempts at one in a million."""
NOT_WITHOUT_TICKET = "this gateway lets nobody in without a ticket"
ASK_FOR_TICKET = "ask the gateway's operator for a ticket (atoll invite)"


@dataclass(slots=True)
class _Knocker:
    """One attempt; `code` is empty until the node has told its nonce."""

    link: ControlLink
    name: str
    commitment: bytes
    nonce: bytes
    since: int
    timer: asyncio.TimerHandle
    code: str = ""
    confirmed: bool = False

    def public(self) -> WaitingNode:
        link = self.link
        return WaitingNode(
            link.peer, self.name, link.peer_host, self.code, self.since, self.confirmed
        )


@dataclass(slots=True)
class _Attempts:
    """A bucket of attempts that fills with time."""

    clock: Callable[[], float]
    left: float = ATTEMPTS_MAX
    seen_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.seen_s = self.clock()

    def take(self) -> bool:
        now_s = self.clock()
        self.left = min(ATTEMPTS_MAX, self.left + (now_s - self.seen_s) / ATTEMPT_EVERY_S)
        self.seen_s = now_s
        if self.left < 1:
            return False
        self.left -= 1
        return True


class WaitingRoom:
    """Everybody who knocked and was not let in yet.

    Args:
        gateway: Our own key.
        register: Where nodes are enrolled.
        knocks: Where the operator sees who waits, and decides.
        tell: Takes one line at a time for the operator to read.
        clock: Seconds that only rise.
    """

    def __init__(
        self,
        gateway: NodeId,
        register: Register,
        knocks: Knocks,
        *,
        tell: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._gateway = gateway
        self._register = register
        self._knocks = knocks
        self._tell = tell
        self._attempts = _Attempts(clock)
        self._knockers: dict[ControlLink, _Knocker] = {}
        self._terms: Approved | None = None

    def open(self, terms: Approved) -> None:
        """Take knocks from now on; `terms` is what those who get in are told."""
        self._terms = terms
        self._publish()

    def close(self) -> None:
        """Send everybody away."""
        for link in list(self._knockers):
            self._send_away(link, "the gateway is shutting down", "try again later")
        self._terms = None
        self._publish()

    def heard(self, link: ControlLink, message: ControlMessage) -> bool:
        """A message of a node that is not in; False where it is none of this room's.

        Raises:
            LinkFault: It may not say that; its link has to end.
        """
        knocker = self._knockers.get(link)
        if isinstance(message, Knock) and knocker is None:
            self._take(link, message)
            return True
        if knocker is None:
            return False
        match message:
            case Reveal(nonce) if not knocker.code:
                self._show(knocker, nonce)
            case CodeConfirmed() if knocker.code and not knocker.confirmed:
                knocker.confirmed = True
                self._publish()
                self.heed()
            case Leave(reason):
                self._tell(f"{knocker.name} went: {peer_text(reason, 200)}")
                link.close()
                self.lost(link)
            case _:
                raise LinkFault(f"a node that waits may not send a {type(message).__name__} now")
        return True

    def lost(self, link: ControlLink) -> None:
        """A link is gone; of others than those who wait it is no matter."""
        knocker = self._knockers.pop(link, None)
        if knocker is not None:
            knocker.timer.cancel()
            if knocker.code:
                self._publish()

    def heed(self) -> None:
        """Do what the operator has decided."""
        if not self._knockers:
            return
        try:
            decisions = {(d.node, d.code): d for d in self._knocks.decisions()}
        except AtollError as error:
            log.warning("knocks.unreadable problem=%s", error)
            return
        for knocker in list(self._knockers.values()):
            decision = decisions.get((knocker.link.peer, knocker.code))
            if decision is not None and not decision.approved:
                self._tell(f"{knocker.name} was sent away")
                self._send_away(knocker.link, "the gateway's operator declined", ASK_FOR_TICKET)
                self._publish()
            elif decision is not None and knocker.confirmed:
                self._let_in(knocker, decision)

    def _take(self, link: ControlLink, knock: Knock) -> None:
        problem, hint = self._objection(link)
        if problem:
            log.warning("knock.refused node=%s problem=%s", link.peer, problem)
            link.send(Refusal(problem, hint))
            link.close()
            return
        timer = asyncio.get_running_loop().call_later(
            REVEAL_S, link.close, LinkFault("the node did not tell its nonce in time")
        )
        name = peer_text(knock.name, NAME_CHARS_MAX).strip() or f"node {link.peer[:6]}"
        nonce = secrets.token_bytes(NONCE_BYTES)
        self._knockers[link] = _Knocker(
            link, name, knock.commitment, nonce, int(time.time()), timer
        )
        link.send(KnockAnswer(nonce))

    def _objection(self, link: ControlLink) -> tuple[str, str]:
        """Why a node may not knock now, and what to do about it; empty if it may."""
        if self._terms is None:
            return NOT_WITHOUT_TICKET, ASK_FOR_TICKET
        waiting = [knocker.link for knocker in self._knockers.values()]
        if any(other.peer == link.peer for other in waiting):
            return "a node with this key waits already", "give each node a home of its own (--home)"
        same_host = sum(other.peer_host == link.peer_host for other in waiting)
        if same_host >= WAITING_PER_HOST_MAX or len(waiting) >= WAITING_MAX:
            return "too many nodes wait to be let in", f"try again later, or {ASK_FOR_TICKET}"
        try:
            known = next((n for n in self._register.nodes() if n.node == link.peer), None)
        except AtollError as error:
            return error.problem, error.hint
        if known is not None and known.revoked:
            return "this node was revoked by the gateway's operator", "ask the operator"
        if not self._attempts.take():
            return (
                "too many nodes knocked within a short time",
                f"try again in a minute, or {ASK_FOR_TICKET}",
            )
        return "", ""

    def _show(self, knocker: _Knocker, nonce: bytes) -> None:
        """The node told its nonce: from now on the operator can see it."""
        node = knocker.link.peer
        if commitment_to(nonce, gateway=self._gateway, node=node) != knocker.commitment:
            raise ProtocolFault("the node's nonce is not the one that it committed itself to")
        knocker.timer.cancel()
        knocker.timer = asyncio.get_running_loop().call_later(WAIT_S, self._expire, knocker)
        knocker.code = code_of(nonce, knocker.nonce, gateway=self._gateway, node=node)
        self._publish()
        self._tell(
            f"{knocker.name} (key {node[:12]}, at {knocker.link.peer_host}) asks in without a"
            f" ticket; its code has to be {knocker.code}: atoll nodes approve {node[:12]}"
        )

    def _expire(self, knocker: _Knocker) -> None:
        self._tell(f"{knocker.name} waited {WAIT_S:.0f} s; nobody let it in")
        self._send_away(
            knocker.link,
            f"nobody let it in within {WAIT_S:.0f} s",
            "run atoll join again while the gateway's operator is there",
        )
        self._publish()

    def _let_in(self, knocker: _Knocker, decision: Decision) -> None:
        """Both have confirmed."""
        link = knocker.link
        assert self._terms is not None
        try:
            self._register.enrol(link.peer, knocker.name, decision.owner)
        except AtollError as error:
            self._send_away(link, error.problem, error.hint)
        else:
            self._tell(f"{knocker.name} (key {link.peer[:12]}) may come from now on")
            link.send(self._terms)
            link.close()
            self.lost(link)
        self._publish()

    def _send_away(self, link: ControlLink, problem: str, hint: str) -> None:
        link.send(Refusal(problem, hint))
        link.close()
        knocker = self._knockers.pop(link, None)
        if knocker is not None:
            knocker.timer.cancel()

    def _publish(self) -> None:
        """Let commands see who waits. Where that fails, nobody can be let in, and the log says."""
        shown = tuple(k.public() for k in self._knockers.values() if k.code)
        try:
            self._knocks.publish(shown)
        except AtollError as error:
            log.warning("knocks.unwritable problem=%s", error)
            if shown:
                self._tell(f"who waits cannot be shown: {error}")
