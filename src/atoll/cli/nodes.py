"""`atoll nodes`: who may host stages."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
from rich.table import Table

from atoll.cli.screen import data_console, printable, say, show_json
from atoll.cli.settings import HomeFlags, flags
from atoll.gateway.register import REGISTER_FILE, EnrolledNode, Register


@flags
class NodesFlags(HomeFlags):
    """Options of `atoll nodes`."""

    json: bool = False
    """Print the result as JSON."""

    def register(self) -> Register:
        """The register of the gateway's home."""
        return Register(self.home_dir() / REGISTER_FILE)


class OpenInvitation(msgspec.Struct, frozen=True):
    """An invitation without the hash of its secret."""

    id: str
    owner: str
    expires: int
    uses_left: int


class NodesReply(msgspec.Struct, frozen=True):
    """The register, for `--json`. Times are in seconds since 1970."""

    nodes: tuple[EnrolledNode, ...]
    invitations: tuple[OpenInvitation, ...]


def list_nodes(*, options: NodesFlags | None = None) -> None:
    """List the nodes that may come, and the invitations that are open.

    Who of them is here now, and with which layers, is shown by `atoll status`.

    Example: `atoll nodes list`
    """
    options = options or NodesFlags()
    register = options.register()
    nodes, invitations = register.nodes(), register.invitations()
    if options.json:
        public = tuple(OpenInvitation(i.id, i.owner, i.expires, i.uses_left) for i in invitations)
        show_json(NodesReply(nodes, public))
        return
    if not nodes and not invitations:
        say("Nobody was invited yet; make a ticket with 'atoll invite'.")
        return
    table = Table("node", "owner", "name", "joined (UTC)", "state", title="nodes")
    for node in nodes:
        state = "revoked" if node.revoked else "rests" if node.resting else "may come"
        table.add_row(
            node.node[:12], printable(node.owner), printable(node.name), _time(node.enrolled), state
        )
    data_console().print(table)
    table = Table("invitation", "owner", "uses left", "until (UTC)", title="open invitations")
    for invitation in invitations:
        table.add_row(
            invitation.id,
            printable(invitation.owner),
            str(invitation.uses_left),
            _time(invitation.expires),
        )
    data_console().print(table)


def _time(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}"


def revoke_nodes(node: str, /, *, options: NodesFlags | None = None) -> None:
    """Send a node away for good; it cannot come back, not even with a ticket.

    Streams of the ring it is in end with an error, and the ring is formed again.

    Example: `atoll nodes revoke anna-pc`

    Args:
        node: Its name, or the beginning of its key, as `atoll nodes list` shows them.
    """
    options = options or NodesFlags()
    _tell(options, options.register().revoke(node), "revoked")


def drain_nodes(node: str, /, *, options: NodesFlags | None = None) -> None:
    """Let a node rest: another takes its place once running streams have ended.

    Without another node to take its place it goes on until one has joined.

    Example: `atoll nodes drain anna-pc`

    Args:
        node: Its name, or the beginning of its key, as `atoll nodes list` shows them.
    """
    options = options or NodesFlags()
    _tell(options, options.register().rest(node, resting=True), "is to rest:")


def resume_nodes(node: str, /, *, options: NodesFlags | None = None) -> None:
    """Let a node that rests take part again.

    Example: `atoll nodes resume anna-pc`

    Args:
        node: Its name, or the beginning of its key, as `atoll nodes list` shows them.
    """
    options = options or NodesFlags()
    _tell(options, options.register().rest(node, resting=False), "may take part:")


def _tell(options: NodesFlags, node: EnrolledNode, what: str) -> None:
    if options.json:
        show_json(node)
    else:
        print(f"{what} {node.node[:12]} {printable(node.name)}")
