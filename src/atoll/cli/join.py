"""`atoll join`: host a stage on this machine."""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.types import NonNegativeInt
from cyclopts.validators import Number

from atoll.cli.running import run_until_stopped
from atoll.cli.screen import say
from atoll.cli.settings import HomeFlags, StoreFlags, check_gpu, flags
from atoll.engine.confine import hide
from atoll.engine.threads import SHARED_SPIN, stage_threads
from atoll.net.home import held_home
from atoll.net.identity import Identity
from atoll.net.ticket import PREFIX, TICKET_CHARS_MAX, Ticket
from atoll.net.transport import Way
from atoll.node.daemon import NodeDaemon
from atoll.node.membership import Membership
from atoll.node.options import NodeOptions
from atoll.store.cache import size_bytes_of

IDENTITY_FILE = "node.pem"
STANDARD_INPUT = "-"


@flags
class JoinFlags(HomeFlags, StoreFlags):
    """Options of `atoll join`."""

    name: str = ""
    """What to call this node in tables. Default: the host's name."""

    model: str = ""
    """The model, as a file or a name; or an address (`https://...`, `hf:ORG/REPO/FILE.gguf`), of
    which only this node's layers are fetched. Default: looked up in the store by its hash; if it
    is not there, the gateway sends this node's layers."""

    threads: NonNegativeInt = 0
    """Worker threads of the stage for a single stream. 0: all cores, up to 4."""

    threads_large: NonNegativeInt = 0
    """Worker threads of the stage for prompts and several streams. 0: all cores, up to 4."""

    share_cores: Annotated[bool, Parameter(negative="--own-cores")] = True
    """Whether other stages run on this machine's cores; its threads then yield sooner."""

    gpu: Annotated[str, Parameter(validator=check_gpu)] = "auto"
    """What computes the stage: `auto` (a GPU that has room, else the processor), `none`
    (the processor), or a GPU's number."""

    link: Way = "auto"
    """What carries links: `tls` over TCP, `quic` over UDP, or `auto` for what gets through."""

    host: str = ""
    """Address at which the other nodes reach this machine. Default: the one from which it
    reaches the gateway."""

    port: Annotated[int, Parameter(validator=Number(gte=0, lte=65535))] = 0
    """Port for them; 0 takes any free one."""

    cache_max: str = ""
    """What shards and partial downloads may take on the disk, such as 20GB; the least recently
    used ones make room for this node's. Default: no bound."""

    def node_options(self) -> NodeOptions:
        """For the node."""
        return NodeOptions(
            name=self.name or platform.node(),
            model=self.model,
            threads=stage_threads(self.threads),
            threads_large=stage_threads(self.threads_large),
            host=self.host,
            port=self.port,
            way=self.link,
            spin=SHARED_SPIN if self.share_cores else None,
            cache_bytes_max=size_bytes_of(self.cache_max) if self.cache_max else None,
            gpu=self.gpu,
        )


def check_no_flag(_type: type, value: str | None) -> None:
    """Refuse an unknown flag that a leading hyphen lets pass as a ticket.

    Raises:
        ValueError: It begins with a hyphen and is not `-` alone.
    """
    if value and value.startswith("-") and value != STANDARD_INPUT:
        raise ValueError(f"there is no option {value}")


def join(
    ticket: Annotated[
        str | None, Parameter(allow_leading_hyphen=True, validator=check_no_flag)
    ] = None,
    /,
    *,
    options: JoinFlags | None = None,
) -> None:
    """Join a ring: host a part of its model on this machine.

    The gateway's operator makes a ticket (`atoll invite`), or uses the files that the gateway
    writes; it is a secret. Once let in, this machine comes back without a ticket. Its part of the
    model is cut from the model if that is here, else fetched: from the model's address (`--model`),
    or from the gateway and the nodes that have it. The node runs until the gateway says goodbye;
    stop it with Ctrl-C. Two nodes on one machine need different homes (`--home`), as the home
    holds the node's identity.

    Example: `atoll join atoll-ticket-...`

    Example: `atoll join node-1.join --model hf:ORG/REPO/FILE.gguf`

    Example: `ssh gateway cat node-1.join | atoll join -`

    Example: `atoll join`

    Args:
        ticket: The ticket, a file that holds it, or `-` for standard input. Default: the
            gateway that this machine joined before.
    """
    hide()
    options = options or JoinFlags()
    home, store = options.home_dir(), options.open_store()
    membership = find_membership(ticket, home)
    with held_home(home, "node"):
        daemon = NodeDaemon(
            Identity.load_or_create(home / IDENTITY_FILE),
            store,
            options.node_options(),
            tell=say,
            welcomed=lambda: membership.save(home),
        )
        stopped = run_until_stopped(daemon.run(membership))
    if stopped is not None:
        say(f"stopped by {stopped.name}")


def find_membership(ticket: str | None, home: Path) -> Membership:
    """The gateway of a ticket, or the one that `home` joined before.

    Raises:
        PrivateFileFault: The ticket is malformed, or its file missing or open to
            others; or there is neither.
    """
    if ticket is None:
        return Membership.load(home)
    if ticket == STANDARD_INPUT:
        content = sys.stdin.buffer.read(TICKET_CHARS_MAX + 1).decode("utf-8", "replace")
        return Membership.of_ticket(Ticket.parse(content, source="standard input"))
    if ticket.startswith(PREFIX):
        return Membership.of_ticket(Ticket.parse(ticket))
    return Membership.of_ticket(Ticket.load(Path(ticket).expanduser()))
