"""The file of nodes that wait for the operator's word, and of what the operator says.

    HOME/knocks.json   no secrets; mode 0600

The running gateway writes who waits; commands write decisions, which it heeds
within a second. A decision names the code, so that it never counts for another
attempt of the same node.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec.structs import replace

from atoll.domain.errors import AtollError
from atoll.domain.ids import NodeId
from atoll.members.register import OWNER_DEFAULT, check_owner
from atoll.net.pairing import is_same_code
from atoll.net.records import RecordFile

KNOCKS_FILE = "knocks.json"


class NobodyWaits(AtollError):
    """A waiting node that was named is not there, or its code is another."""

    exit_code = 2


class WaitingNode(msgspec.Struct, frozen=True):
    """A node that waits; `since` is in seconds since 1970.

    `confirmed`: its owner has said that both sides show the same code.
    """

    node: NodeId
    name: str
    host: str
    code: str
    since: int
    confirmed: bool = False


class Decision(msgspec.Struct, frozen=True):
    """The operator's word on one attempt of a node."""

    node: NodeId
    code: str
    approved: bool
    owner: str = OWNER_DEFAULT


class _Knocks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int = 1
    waiting: tuple[WaitingNode, ...] = ()
    decisions: tuple[Decision, ...] = ()


class Knocks:
    """Who waits, and what was decided. Every method raises `RecordFault` as `Register` does."""

    def __init__(self, path: Path) -> None:
        self._file = RecordFile(
            path,
            _Knocks(),
            title="list of waiting nodes",
            remedy="remove it; nodes that wait have to knock again",
        )

    def waiting(self) -> tuple[WaitingNode, ...]:
        """Who waits, longest first. Of use only while the gateway runs."""
        return self._file.load().waiting

    def decisions(self) -> tuple[Decision, ...]:
        """What was decided of those who wait."""
        return self._file.load().decisions

    def publish(self, waiting: tuple[WaitingNode, ...]) -> None:
        """Say who waits; decisions on others are dropped."""
        if not waiting and self._file.load() == _Knocks():
            return
        attempts = {(node.node, node.code) for node in waiting}
        with self._file.locked() as content:
            left = tuple(d for d in content.decisions if (d.node, d.code) in attempts)
            new = replace(content, waiting=waiting, decisions=left)
            if new != content:
                self._file.save(new)

    def find(self, wanted: str) -> WaitingNode:
        """The one that waits with this name, or whose key begins so.

        Raises:
            NobodyWaits: None or several do.
        """
        found = [n for n in self.waiting() if wanted and _is_meant(n, wanted)]
        if len(found) != 1:
            raise NobodyWaits(
                f"{len(found) or 'no'} nodes that wait are named {wanted[:80]!r}",
                hint="'atoll nodes list' shows who waits; name it by the beginning of its key",
            )
        return found[0]

    def approve(self, node: WaitingNode, code: str, owner: str = OWNER_DEFAULT) -> None:
        """Let it in, once its owner has confirmed the code too.

        Args:
            node: Who.
            code: What its owner says that it shows.
            owner: Under whose name it is listed.

        Raises:
            NobodyWaits: The code is not this node's: somebody may stand between.
            BadInvitation: The owner's name cannot be listed.
        """
        check_owner(owner)
        if not is_same_code(code, node.code):
            raise NobodyWaits(
                f"the codes differ: {node.node[:12]} should show {node.code}",
                hint="let nobody in whose code differs: atoll nodes deny " + node.node[:12],
            )
        self._decide(Decision(node.node, node.code, approved=True, owner=owner))

    def deny(self, node: WaitingNode) -> None:
        """Send it away."""
        self._decide(Decision(node.node, node.code, approved=False))

    def _decide(self, decision: Decision) -> None:
        with self._file.locked() as content:
            if not any((n.node, n.code) == (decision.node, decision.code) for n in content.waiting):
                raise NobodyWaits(
                    "it waits no longer", hint="run 'atoll join' there again, and compare anew"
                )
            others = tuple(d for d in content.decisions if d.node != decision.node)
            self._file.save(replace(content, decisions=(*others, decision)))


def _is_meant(node: WaitingNode, wanted: str) -> bool:
    return wanted == node.name or node.node.startswith(wanted)
