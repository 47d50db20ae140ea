"""`atoll leave`: end a machine's membership."""

from __future__ import annotations

from atoll.cli.join import IDENTITY_FILE
from atoll.cli.running import run
from atoll.cli.screen import say
from atoll.cli.settings import HomeFlags, flags
from atoll.domain.errors import LinkFault
from atoll.net.home import held_home
from atoll.net.identity import Identity
from atoll.node.dial import part_for_good
from atoll.node.membership import Membership, forget


@flags
class LeaveFlags(HomeFlags):
    """Options of `atoll leave`."""

    force: bool = False
    """Leave even where the gateway cannot be told."""


def leave(*, options: LeaveFlags | None = None) -> None:
    """Leave a gateway for good.

    It forgets this node, and this node the gateway. The node must not be running; stop it
    first with Ctrl-C. To pause, stopping is enough: `atoll join` without a ticket comes back.

    Example: `atoll leave`
    """
    options = options or LeaveFlags()
    home = options.home_dir()
    with held_home(home, "node"):
        membership = Membership.load(home)
        try:
            run(part_for_good(membership, Identity.load_or_create(home / IDENTITY_FILE)))
        except LinkFault as fault:
            if not options.force:
                raise LinkFault(
                    f"the gateway could not be told: {fault.problem}",
                    hint="try again when it runs, or leave without telling it: --force",
                ) from fault
            say(f"the gateway could not be told: {fault.problem}")
        forget(home)
    say("left; to come again a new ticket is needed")
