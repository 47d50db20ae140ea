"""`atoll nodes`: who may host stages."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
from rich.table import Table

from atoll.cli.ask import ask, check_terminal
from atoll.cli.running import run
from atoll.cli.screen import data_console, megabytes, printable, say, show_json
from atoll.cli.settings import HomeFlags, flags
from atoll.cli.status import ask_status
from atoll.client.endpoint import choose_endpoint
from atoll.domain.errors import AtollError
from atoll.gateway.status import MemoryStatus
from atoll.members.knocks import KNOCKS_FILE, Knocks, NobodyWaits, WaitingNode
from atoll.members.register import OWNER_DEFAULT, REGISTER_FILE, EnrolledNode, Register
from atoll.net.home import is_home_held


@flags
class NodesFlags(HomeFlags):
    """Options of `atoll nodes`."""

    json: bool = False
    """Print the result as JSON."""

    def register(self) -> Register:
        """The register of the gateway's home."""
        return Register(self.home_dir() / REGISTER_FILE)

    def knocks(self) -> Knocks:
        """Who waits at the gateway of that home."""
        return Knocks(self.home_dir() / KNOCKS_FILE)

    def waiting(self) -> tuple[WaitingNode, ...]:
        """Who waits now; a gateway that was killed leaves its list behind."""
        running = is_home_held(self.home_dir(), "gateway")
        return self.knocks().waiting() if running else ()


@flags
class ApproveFlags(NodesFlags):
    """Options of `atoll nodes approve`."""

    code: str = ""
    """The code that the node shows, in place of asking; another one than the gateway's is
    refused."""

    owner: str = OWNER_DEFAULT
    """Who runs the machine; it is listed under this name."""


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
    waiting: tuple[WaitingNode, ...] = ()
    memory: tuple[MemoryStatus, ...] = ()


def list_nodes(*, options: NodesFlags | None = None) -> None:
    """List the nodes that may come, those that wait for your word, and the open invitations.

    Of nodes that only lend memory and are here now it says how much; who else is here, and
    with which layers, is shown by `atoll status`.

    Example: `atoll nodes list`
    """
    options = options or NodesFlags()
    register = options.register()
    nodes, invitations, waiting = register.nodes(), register.invitations(), options.waiting()
    if options.json:
        public = tuple(OpenInvitation(i.id, i.owner, i.expires, i.uses_left) for i in invitations)
        show_json(NodesReply(nodes, public, waiting, _memory_here(options)))
        return
    if waiting:
        _show_waiting(waiting)
    if not nodes and not invitations and not waiting:
        say("Nobody was invited yet; make a ticket with 'atoll invite'.")
        return
    lenders = {node.node: node for node in _memory_here(options)}
    table = Table("node", "owner", "name", "joined (UTC)", "state", title="nodes")
    for node in nodes:
        state = _state(node, lenders.get(node.node))
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


def _state(node: EnrolledNode, lender: MemoryStatus | None) -> str:
    if node.revoked:
        return "revoked"
    if lender is not None:
        used, lent = megabytes(lender.used_bytes), megabytes(lender.lent_bytes)
        return f"memory, {used} of {lent} MiB used"
    return "rests" if node.resting else "may come"


def _memory_here(options: NodesFlags) -> tuple[MemoryStatus, ...]:
    """The nodes that lend memory now; none where no gateway runs with this home, or answers."""
    if not is_home_held(options.home_dir(), "gateway"):
        return ()
    try:
        return run(ask_status(choose_endpoint(None, "", options.home_dir()))).memory
    except AtollError as error:
        say(f"which nodes lend memory now is not known: {error.problem}")
        return ()


def _show_waiting(waiting: tuple[WaitingNode, ...]) -> None:
    table = Table("node", "name", "at", "since (UTC)", "code", "its owner", title="waiting nodes")
    for node in waiting:
        said = "has confirmed it" if node.confirmed else "compares it"
        cells = (printable(node.name), printable(node.host), _time(node.since), node.code, said)
        table.add_row(node.node[:12], *cells)
    data_console().print(table)
    say("let in who shows the same code: atoll nodes approve NODE; send others away: deny")


def approve_nodes(node: str, /, *, options: ApproveFlags | None = None) -> None:
    """Let a node in that came without a ticket, if it shows the same code as this gateway.

    It joins as soon as its owner has confirmed the code too. A code that differs means that
    somebody stands between you and the node: deny it.

    Example: `atoll nodes approve anna-pc --owner anna`

    Args:
        node: Its name, or the beginning of its key, as `atoll nodes list` shows them.
    """
    options = options or ApproveFlags()
    knocks = _running_knocks(options)
    waiting = knocks.find(node)
    code = options.code
    if not code:
        check_terminal("whether both show the same code", "or give the node's code: --code CODE")
        say(f"{printable(waiting.name)}, key {waiting.node[:12]}, at {printable(waiting.host)}")
        say(f"its code has to be {waiting.code}")
        if not ask("Does it show this code?"):
            raise NobodyWaits(
                f"{waiting.node[:12]} was not approved, and waits on",
                hint="if its code differs, somebody stands between: atoll nodes deny"
                f" {waiting.node[:12]}, and give it a ticket (atoll invite)",
            )
        code = waiting.code
    knocks.approve(waiting, code, options.owner)
    _tell_waiting(options, waiting, "approved")
    if not waiting.confirmed:
        say("it joins as soon as its owner has confirmed the code there")


def deny_nodes(node: str, /, *, options: NodesFlags | None = None) -> None:
    """Send a node away that came without a ticket and waits.

    Example: `atoll nodes deny anna-pc`

    Args:
        node: Its name, or the beginning of its key, as `atoll nodes list` shows them.
    """
    options = options or NodesFlags()
    knocks = _running_knocks(options)
    waiting = knocks.find(node)
    knocks.deny(waiting)
    _tell_waiting(options, waiting, "denied")


def _running_knocks(options: NodesFlags) -> Knocks:
    if not is_home_held(options.home_dir(), "gateway"):
        raise AtollError(
            f"no gateway runs with the home {options.home_dir()}",
            hint="start it first: atoll serve MODEL --link-host 0.0.0.0",
        )
    return options.knocks()


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
    """Let a node rest: another takes its place, and streams that run go on there.

    Without another node to take its place it goes on until one has joined. `atoll drain`
    does the same and waits for it.

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


def _tell_waiting(options: NodesFlags, node: WaitingNode, what: str) -> None:
    if options.json:
        show_json(node)
    else:
        print(f"{what} {node.node[:12]} {printable(node.name)}")


def _tell(options: NodesFlags, node: EnrolledNode, what: str) -> None:
    if options.json:
        show_json(node)
    else:
        print(f"{what} {node.node[:12]} {printable(node.name)}")
