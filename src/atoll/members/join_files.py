"""Join files: a ticket for every vacant place of the ring, where its operator finds it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from atoll.domain.errors import AtollError
from atoll.members.register import OWNER_DEFAULT, Invitation, Register
from atoll.net.ticket import Ticket

log = logging.getLogger(__name__)

LIFETIME_S = 24 * 3600.0

MakeTicket = Callable[[Invitation, str], Ticket]
"""A ticket from an invitation and its secret: it adds where the gateway is."""


class JoinFiles:
    """One file for each vacant place, good for one machine.

    Args:
        folder: Where they lie.
        register: Where their invitations stand.
        make_ticket: Adds key and addresses.
    """

    def __init__(self, folder: Path, register: Register, make_ticket: MakeTicket) -> None:
        self._folder = folder
        self._register = register
        self._make_ticket = make_ticket
        self._invited: dict[int, str] = {}

    def write(self, place: int) -> Path:
        """Invite somebody to `place` and write the file.

        Raises:
            AtollError: It cannot be written.
        """
        self.remove(place)
        invitation, secret = self._register.invite(OWNER_DEFAULT, lifetime_s=LIFETIME_S)
        path = self._path(place)
        self._make_ticket(invitation, secret).write(path)
        self._invited[place] = invitation.id
        return path

    def place_of(self, invitation: str) -> int | None:
        """The place to which this invitation was written."""
        return next((p for p, invited in self._invited.items() if invited == invitation), None)

    def remove(self, place: int) -> None:
        """The place is taken: its file is of no use any more.

        What cannot be taken back is only logged: an invitation ends by itself.
        """
        try:
            self._path(place).unlink(missing_ok=True)
            if place in self._invited:
                self._register.withdraw(frozenset({self._invited.pop(place)}))
        except (OSError, AtollError) as error:
            log.warning("join_file.not_taken_back place=%d problem=%s", place, error)

    def close(self) -> None:
        """Take all of them away."""
        for place in list(self._invited):
            self.remove(place)

    def _path(self, place: int) -> Path:
        return self._folder / f"node-{place + 1}.join"
