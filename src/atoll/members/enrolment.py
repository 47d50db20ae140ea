"""Onto the register, and off it: machines that ask in, and those that part for good."""

from __future__ import annotations

import logging

from atoll.domain.control import Join, Leave, Refusal
from atoll.domain.errors import AtollError, LinkFault
from atoll.members.register import NAME_CHARS_MAX, EnrolledNode, NotInvited, Register
from atoll.net.link import ControlLink, peer_text

log = logging.getLogger(__name__)

TEXT_CHARS_MAX = 500
"""What is kept of a node's words about itself."""


def enrol(
    register: Register, link: ControlLink, join: Join, objection: tuple[str, str]
) -> tuple[EnrolledNode, str] | None:
    """The node's entry and the invitation that it came with; None: it was sent away.

    Args:
        register: Who may come.
        link: What the node came on.
        join: What it says of itself.
        objection: Why it cannot be let in all the same, and a hint; empty if it can.
    """
    problem, hint = objection
    final = False
    if not problem:
        try:
            name = peer_text(join.name, NAME_CHARS_MAX)
            return register.admit(link.peer, name, join.secret)
        except AtollError as error:
            problem, hint = error.problem, error.hint
            final = isinstance(error, NotInvited)
    problem = peer_text(problem, TEXT_CHARS_MAX)
    log.warning("fleet.refused node=%s problem=%s", link.peer, problem)
    link.send(Refusal(problem, hint, final))
    link.close()
    return None


def part_for_good(register: Register, link: ControlLink) -> None:
    """An enrolled node that is not in says that it will not come again.

    Raises:
        LinkFault: The register cannot be written.
    """
    try:
        register.forget(link.peer)
    except AtollError as error:
        raise LinkFault(error.problem, hint=error.hint) from error
    link.send(Leave("forgotten"))
    link.close()
