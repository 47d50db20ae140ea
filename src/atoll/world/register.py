"""The gateway's records without a disk: what it remembers from life to life."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from atoll.domain.address import HostPort
from atoll.domain.ids import NodeId
from atoll.members.join_files import JoinFiles
from atoll.members.register import Invitation, Register
from atoll.net.records import RecordFault, RecordFile
from atoll.net.ticket import Ticket
from atoll.world.machine import Machine

Content = TypeVar("Content", bound=msgspec.Struct)


class _Records(RecordFile[Content]):
    """Records in memory, which cannot be written while the machine's disk is full."""

    def __init__(self, content: Content, machine: Machine) -> None:
        self._now, self._machine = content, machine

    def load(self) -> Content:
        return self._now

    def save(self, content: Content) -> None:
        if self._machine.disk_is_full:
            raise RecordFault("cannot write the register: No space left on device")
        self._now = content

    @contextmanager
    def locked(self) -> Iterator[Content]:
        yield self._now


class SimRegister(Register):
    """The register of a simulated gateway.

    Args:
        machine: The gateway's.
    """

    def __init__(self, machine: Machine) -> None:
        super().__init__(Path("no-disk/register"))
        self._file = _Records(self._file.load(), machine)


class _UnwrittenTicket(Ticket, frozen=True):
    """A ticket that nobody has to find."""

    def write(self, path: Path) -> None:
        """There is no disk."""


def join_files(register: Register, gateway: NodeId, place: HostPort) -> JoinFiles:
    """Join files of which only the invitations are kept."""

    def make_ticket(invitation: Invitation, secret: str) -> Ticket:
        return _UnwrittenTicket(gateway, (place,), secret, invitation.expires)

    return JoinFiles(Path("no-disk"), register, make_ticket)
