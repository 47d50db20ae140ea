"""`atoll join`: host a stage on this machine."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from atoll.cli.ask import check_terminal, wait_line, wait_yes
from atoll.cli.join_flags import JoinFlags
from atoll.cli.running import run_until_stopped
from atoll.cli.screen import say
from atoll.engine.confine import hide
from atoll.net.discovery import LOOK_S, SHORT_KEY_CHARS, choose, look_for_gateways
from atoll.net.home import held_home
from atoll.net.identity import Identity
from atoll.net.pairing import is_same_code
from atoll.net.ticket import PREFIX, TICKET_CHARS_MAX, Ticket
from atoll.node.daemon import NodeDaemon
from atoll.node.keeping import clear
from atoll.node.knock import Confirm, knock_at
from atoll.node.membership import Membership, has_joined
from atoll.node.memory_daemon import MemoryDaemon
from atoll.node.probe_cache import PROBE_FILE, ProbeCache
from atoll.node.returning import run_returning

IDENTITY_FILE = "node.pem"
STANDARD_INPUT = "-"


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
    or from the gateway and the nodes that have it. The node runs until the gateway says goodbye,
    and comes back to one that is gone (`--wait`); stop it with Ctrl-C. Two nodes on one machine
    need different homes (`--home`), as the home holds the node's identity.

    Without a ticket, and if it has joined nobody before, it looks for gateways on this network.
    Then both sides show a code of six digits; you confirm here that the gateway shows the same,
    and the gateway's operator confirms there, `atoll nodes approve`.

    Example: `atoll join atoll-ticket-...`

    Example: `atoll join node-1.join --model hf:ORG/REPO/FILE.gguf`

    Example: `ssh gateway cat node-1.join | atoll join -`

    With `--memory-only` it computes nothing and needs no model: it lends its memory.

    Example: `atoll join`

    Example: `atoll join --memory-only 8GB`

    Args:
        ticket: The ticket, a file that holds it, or `-` for standard input. Default: the
            gateway that this machine joined before, else one of this network.
    """
    hide()
    options = options or JoinFlags()
    home = options.home_dir()
    known = find_membership(ticket, home)
    if known is None:
        _check_can_confirm(options)
    elif options.gateway or options.read_code:
        say("--gateway and --read-code count only without a ticket, in a home that joined nobody")
    with held_home(home, "node"):
        identity = Identity.load_or_create(home / IDENTITY_FILE)

        async def work() -> None:
            membership = known
            if membership is None:
                membership = await find_and_knock(identity, options)
                membership.save(home)
            await _stay(membership, identity, options)

        stopped = run_until_stopped(work())
    if stopped is not None:
        say(f"stopped by {stopped.name}")


async def _stay(membership: Membership, identity: Identity, options: JoinFlags) -> None:
    """Be a node of this gateway, also of its next lives."""

    def make(let_in: Callable[[], None]) -> NodeDaemon | MemoryDaemon:
        def welcomed() -> None:
            membership.save(options.home_dir())
            let_in()

        return _daemon(identity, options, welcomed)

    await run_returning(membership, make, wait_s=options.wait, tell=say)


def _daemon(
    identity: Identity, options: JoinFlags, welcomed: Callable[[], None]
) -> NodeDaemon | MemoryDaemon:
    """The node that these options describe: it computes, or it only lends memory."""
    node = options.node_options()
    if node.lends_bytes:
        return MemoryDaemon(identity, node, tell=say, welcomed=welcomed)
    clear(node.keeping)
    return NodeDaemon(
        identity,
        options.open_store(),
        node,
        tell=say,
        welcomed=welcomed,
        probes=ProbeCache(options.home_dir() / PROBE_FILE),
    )


def _check_can_confirm(options: JoinFlags) -> None:
    if not options.read_code:
        check_terminal(
            "this machine has joined no gateway yet: whether a gateway of this network shows"
            " the same code as it",
            "join with a ticket: atoll join TICKET; its operator makes one with atoll invite."
            " Or run it in a terminal, or with --read-code",
        )


async def find_and_knock(identity: Identity, options: JoinFlags) -> Membership:
    """Find a gateway on this network and agree with its operator, or raise an AtollError."""
    say(f"looking for gateways on this network, for {LOOK_S:g} s")
    found = choose(await look_for_gateways(host=options.look_on), options.gateway)
    say(f"found {found.name} (key {found.short_key}, at {found.places[0].host}); asking to join")
    node = options.node_options()
    membership = await knock_at(
        found, identity, node.name, confirm=_confirmer(options, identity), way=node.way
    )
    say("let in; from now on this machine comes back without asking")
    return membership


def _confirmer(options: JoinFlags, identity: Identity) -> Confirm:
    async def confirm(code: str) -> bool:
        say(f"the code is {code}")
        say("the gateway shows its own: with atoll nodes list, and where it was started")
        if options.read_code:
            same = is_same_code(await wait_line(), code)
        else:
            same = await wait_yes("Does the gateway show the same code?")
        if same:
            short = identity.node_id[:SHORT_KEY_CHARS]
            say(f"waiting for its operator to confirm too: atoll nodes approve {short}")
        return same

    return confirm


def find_membership(ticket: str | None, home: Path) -> Membership | None:
    """The gateway of a ticket, or the one that `home` joined before; None if there is neither.

    Raises:
        PrivateFileFault: The ticket is malformed, or a file missing, damaged or
            open to others.
    """
    if ticket is None:
        return Membership.load(home) if has_joined(home) else None
    if ticket == STANDARD_INPUT:
        content = sys.stdin.buffer.read(TICKET_CHARS_MAX + 1).decode("utf-8", "replace")
        return Membership.of_ticket(Ticket.parse(content, source="standard input"))
    if ticket.startswith(PREFIX):
        return Membership.of_ticket(Ticket.parse(ticket))
    return Membership.of_ticket(Ticket.load(Path(ticket).expanduser()))
