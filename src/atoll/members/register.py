"""The register: who was invited, and which nodes were let in.

    HOME/register.json   invitations and enrolled nodes; mode 0600

An invitation is a secret, kept as its hash, that lets one machine (or some) in
until it expires. Who came in once is enrolled by key and comes back without a
secret, until the operator revokes it. Commands and the gateway share the file.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec.structs import replace

from atoll.domain.errors import AtollError, NotLetIn
from atoll.domain.ids import NodeId
from atoll.net.records import RecordFile
from atoll.net.ticket import relay_token

REGISTER_FILE = "register.json"
INVITATIONS_MAX = 4096
NODES_MAX = 16_384
USES_MAX = 10_000
OWNER_DEFAULT = "local"
NAME_CHARS_MAX = 64
_SECRET_BYTES = 32
_ID_BYTES = 4


class NotInvited(NotLetIn):
    """A node that is not let in; problem and hint are for its owner."""


class BadInvitation(AtollError):
    """An invitation or node that was named does not exist, or cannot be made."""

    exit_code = 2


class Invitation(msgspec.Struct, frozen=True):
    """An open invitation. Times are in seconds since 1970.

    `sha256` is that of its secret, `relay_sha256` that of the token which the
    secret gives for the relay.
    """

    id: str
    owner: str
    created: int
    expires: int
    uses_left: int
    sha256: str
    relay_sha256: str = ""


class EnrolledNode(msgspec.Struct, frozen=True):
    """A node that was let in. `enrolled` is in seconds since 1970."""

    node: NodeId
    owner: str
    name: str
    enrolled: int
    revoked: bool = False
    resting: bool = False
    """Whether the operator wants it to take no part for now (`atoll nodes drain`)."""


class _Register(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int = 1
    invitations: tuple[Invitation, ...] = ()
    nodes: tuple[EnrolledNode, ...] = ()


class Register:
    """Invitations and enrolled nodes in one file.

    Every method raises `RecordFault` where the file cannot be used.

    Args:
        path: Where the file lies.
        clock: Seconds since 1970.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._file = RecordFile(
            path,
            _Register(),
            title="register",
            remedy="restore it from a backup, or remove it and invite every node again",
        )

    def invitations(self) -> tuple[Invitation, ...]:
        """Those that are still good, oldest first."""
        return self._good(self._file.load())

    def nodes(self) -> tuple[EnrolledNode, ...]:
        """Every node that was ever let in, oldest first; revoked ones among them."""
        return self._file.load().nodes

    def invite(self, owner: str, *, uses: int = 1, lifetime_s: float) -> tuple[Invitation, str]:
        """Make an invitation.

        Args:
            owner: Whose nodes it lets in.
            uses: How many nodes.
            lifetime_s: For how long.

        Returns:
            The invitation and its secret of 256 random bits, which is kept nowhere.

        Raises:
            BadInvitation: It cannot be made so.
        """
        check_owner(owner)
        if not 1 <= uses <= USES_MAX or lifetime_s <= 0:
            raise BadInvitation(
                f"an invitation is good for 1 to {USES_MAX} nodes and some time",
                hint="see atoll invite --help",
            )
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        now = self._clock()
        with self._file.locked() as content:
            good = self._good(content)
            if len(good) >= INVITATIONS_MAX:
                raise BadInvitation(
                    f"{INVITATIONS_MAX} invitations are open",
                    hint="withdraw some with atoll invite --withdraw",
                )
            made = Invitation(
                id=secrets.token_hex(_ID_BYTES),
                owner=owner,
                created=int(now),
                expires=int(now + lifetime_s),
                uses_left=uses,
                sha256=_digest(secret),
                relay_sha256=_digest(relay_token(secret)),
            )
            self._file.save(replace(content, invitations=(*good, made)))
        return made, secret

    def guest_places(self, token: str) -> int:
        """How many nodes the invitation with this token for the relay still lets in."""
        digest = _digest(token)
        good = self._good(self._file.load())
        matching = [i for i in good if hmac.compare_digest(i.relay_sha256, digest)]
        return matching[0].uses_left if matching else 0

    def withdraw(self, ids: frozenset[str]) -> None:
        """Make these invitations useless; unknown ones are no error."""
        with self._file.locked() as content:
            left = tuple(i for i in self._good(content) if i.id not in ids)
            self._file.save(replace(content, invitations=left))

    def admit(self, node: NodeId, name: str, secret: str) -> tuple[EnrolledNode, str]:
        """Let a node in: by its key if it is enrolled, else by its secret.

        Returns:
            The enrolment, and the id of the invitation that was used up by one;
            empty where the node was enrolled already.

        Raises:
            NotInvited: It was revoked, or its secret is not good (any more).
        """
        with self._file.locked() as content:
            known = next((n for n in content.nodes if n.node == node), None)
            if known is not None and known.revoked:
                raise _revoked()
            if known is not None:
                return known, ""
            used = self._matching(content, secret)
            if len(content.nodes) >= NODES_MAX:
                raise NotInvited(f"{NODES_MAX} nodes are enrolled", hint="tell the operator")
            enrolled = EnrolledNode(node, used.owner, name, int(self._clock()))
            left = tuple(
                replace(i, uses_left=i.uses_left - 1) if i.id == used.id else i
                for i in self._good(content)
            )
            self._file.save(
                replace(
                    content,
                    invitations=tuple(i for i in left if i.uses_left),
                    nodes=(*content.nodes, enrolled),
                )
            )
        return enrolled, used.id

    def enrol(self, node: NodeId, name: str, owner: str) -> EnrolledNode:
        """Let a node in that its owner and the operator vouched for; again is no error.

        Raises:
            NotInvited: It was revoked, or there are too many.
        """
        with self._file.locked() as content:
            known = next((n for n in content.nodes if n.node == node), None)
            if known is not None and known.revoked:
                raise _revoked()
            if known is not None:
                return known
            if len(content.nodes) >= NODES_MAX:
                raise NotInvited(f"{NODES_MAX} nodes are enrolled", hint="tell the operator")
            enrolled = EnrolledNode(node, owner, name, int(self._clock()))
            self._file.save(replace(content, nodes=(*content.nodes, enrolled)))
        return enrolled

    def revoke(self, wanted: str) -> EnrolledNode:
        """Let a node in no more; `wanted` is its name or the beginning of its key.

        Raises:
            BadInvitation: None or several are meant.
        """
        return self._change(wanted, lambda node: replace(node, revoked=True))

    def rest(self, wanted: str, *, resting: bool) -> EnrolledNode:
        """Let a node take no part for now, or again; raises like `revoke`."""
        return self._change(wanted, lambda node: replace(node, resting=resting))

    def _change(self, wanted: str, change: Callable[[EnrolledNode], EnrolledNode]) -> EnrolledNode:
        with self._file.locked() as content:
            changed = change(self._find(content, wanted))
            nodes = tuple(changed if n.node == changed.node else n for n in content.nodes)
            self._file.save(replace(content, nodes=nodes))
        return changed

    def forget(self, node: NodeId) -> None:
        """The node left for good: it needs an invitation to come again."""
        with self._file.locked() as content:
            left = tuple(n for n in content.nodes if n.node != node or n.revoked)
            self._file.save(replace(content, nodes=left))

    def _good(self, content: _Register) -> tuple[Invitation, ...]:
        now = self._clock()
        return tuple(i for i in content.invitations if i.expires > now)

    def _matching(self, content: _Register, secret: str) -> Invitation:
        """The invitation with this secret; every stored hash is compared, in constant time."""
        digest = _digest(secret)
        matching = [i for i in content.invitations if hmac.compare_digest(i.sha256, digest)]
        if not matching:
            raise NotInvited(
                "its invitation is not known here, was withdrawn, or is used up",
                hint="ask the gateway's operator for a new ticket (atoll invite)",
            )
        if matching[0].expires <= self._clock():
            raise NotInvited(
                "its invitation has expired",
                hint="ask the gateway's operator for a new ticket (atoll invite)",
            )
        return matching[0]

    def _find(self, content: _Register, wanted: str) -> EnrolledNode:
        found = [n for n in content.nodes if wanted == n.name or n.node.startswith(wanted)]
        found = [n for n in found if not n.revoked] if wanted else []
        if len(found) != 1:
            raise BadInvitation(
                f"{len(found) or 'no'} nodes are named {wanted!r}",
                hint="'atoll nodes' shows their names and keys",
            )
        return found[0]


def check_owner(owner: str) -> None:
    """Make sure that a node can be listed under this name.

    Raises:
        BadInvitation: It cannot.
    """
    if not owner.strip() or len(owner) > NAME_CHARS_MAX or not owner.isprintable():
        raise BadInvitation(
            f"an owner's name has 1 to {NAME_CHARS_MAX} printable characters",
            hint="name who runs the machine, such as 'anna'",
        )


def _revoked() -> NotInvited:
    return NotInvited(
        "this node was revoked by the gateway's operator",
        hint="ask the operator; a new home (--home) makes a new node",
    )


def _digest(secret: str) -> str:
    # One round is enough: nobody guesses 256 random bits.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
