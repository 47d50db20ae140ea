"""`atoll invite`: a ticket for somebody else's machine."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from cyclopts.types import PositiveInt

from atoll.cli.screen import say, show_json
from atoll.cli.settings import HomeFlags, flags
from atoll.domain.address import HostPort
from atoll.domain.errors import AtollError, BadRequest
from atoll.gateway.run_file import RunFile, read_run_file
from atoll.members.register import OWNER_DEFAULT, REGISTER_FILE, Register
from atoll.net.identity import parse_node_id
from atoll.net.ticket import Ticket

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
LIFETIME_MAX_S = 366 * 86400


@flags
class InviteFlags(HomeFlags):
    """Options of `atoll invite`."""

    owner: str = OWNER_DEFAULT
    """Who runs the machine; its nodes are listed under this name."""

    uses: PositiveInt = 1
    """How many machines the ticket lets in."""

    expires: str = "1h"
    """How long it is good: a number and s, m, h, d or w."""

    address: tuple[str, ...] = ()
    """Where nodes reach the gateway, host:port; may be given again. Default: what the
    gateway told when it started."""

    output: Path | None = None
    """Write the ticket to this file, readable by you alone, in place of printing it."""

    json: bool = False
    """Print the ticket as JSON."""


class InviteReply(msgspec.Struct, frozen=True):
    """A ticket, for `--json`. `expires` is in seconds since 1970."""

    id: str
    owner: str
    uses: int
    expires: int
    addresses: tuple[str, ...]
    ticket: str


def invite(*, options: InviteFlags | None = None) -> None:
    """Make a ticket with which another machine joins.

    There: `atoll join TICKET`. The ticket is a secret: whoever has it can host a part of the
    model. It holds the gateway's key and addresses, and is good for one machine within an hour
    unless told otherwise. A machine that joined once comes back without a ticket.

    Example: `atoll invite --owner anna --expires 1d`
    """
    options = options or InviteFlags()
    home = options.home_dir()
    running = read_run_file(home)
    if running is None:
        raise AtollError(
            f"no gateway runs with the home {home}", hint="start it first: atoll serve MODEL"
        )
    # What is wrong is said before anybody is invited.
    lifetime_s = duration_s(options.expires)
    addresses = _addresses(running, options.address)
    invitation, secret = Register(home / REGISTER_FILE).invite(
        options.owner, uses=options.uses, lifetime_s=lifetime_s
    )
    gateway = parse_node_id(running.gateway)
    ticket = Ticket(gateway, addresses, secret, invitation.expires, running.udp_port, running.relay)
    if options.output is not None:
        ticket.write(options.output.expanduser())
    shown = tuple(str(address) for address in addresses)
    if options.json:
        reply = InviteReply(
            invitation.id,
            invitation.owner,
            options.uses,
            invitation.expires,
            shown,
            ticket.text(),
        )
        show_json(reply)
        return
    until = datetime.fromtimestamp(invitation.expires, UTC)
    machines = "one machine" if options.uses == 1 else f"{options.uses} machines"
    say(f"for {machines} of {options.owner}, until {until:%Y-%m-%d %H:%M} UTC,")
    say(f"reaching this gateway at {', '.join(shown)}; it is a secret:")
    print(ticket.text() if options.output is None else options.output)


def _addresses(running: RunFile, wanted: tuple[str, ...]) -> tuple[HostPort, ...]:
    """Where nodes are to dial.

    Raises:
        BadRequest: Nowhere.
        BadAddress: An address is none.
    """
    addresses = tuple(HostPort.parse(text) for text in wanted or running.addresses)
    if not addresses:
        raise BadRequest(
            "this machine has no address that others could reach",
            hint="name one with --address host:port",
        )
    return addresses


def duration_s(text: str) -> int:
    """The seconds of a duration such as 90s, 15m, 1h, 2d or 1w.

    Raises:
        BadRequest: It is none, or longer than a year.
    """
    found = re.fullmatch(r"([0-9]{1,8})([smhdw])", text.strip())
    seconds = int(found[1]) * UNITS_S[found[2]] if found else 0
    if not 1 <= seconds <= LIFETIME_MAX_S:
        raise BadRequest(
            f"{text[:40]!r} is no time that a ticket could be good for",
            hint="write a number and s, m, h, d or w, a year at most: 30m, 1h, 2d",
        )
    return seconds
