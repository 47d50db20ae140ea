"""Which gateway a node belongs to: from a ticket the first time, from its home ever after.

    HOME/gateway.json   the gateway's key and addresses; mode 0600

The secret of the ticket is not kept: the gateway knows the node by its key.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from atoll.domain.address import Address, HostPort, check_relay, ways_to
from atoll.domain.errors import LinkFault
from atoll.domain.ids import NodeId
from atoll.net.identity import parse_node_id
from atoll.net.private_file import PrivateFileFault, read_private, write_private
from atoll.net.ticket import Ticket

FILE = "gateway.json"
FILE_BYTES_MAX = 64 * 1024


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    gateway: str
    addresses: tuple[str, ...]
    udp_port: int = 0
    relay: str = ""
    version: int = 1


@dataclass(frozen=True, slots=True)
class Membership:
    """A gateway by key and addresses; `secret` is what lets a new node in."""

    gateway: NodeId
    addresses: tuple[HostPort, ...]
    secret: str = ""
    udp_port: int = 0
    relay: str = ""

    @property
    def ways(self) -> tuple[Address, ...]:
        """How to reach the gateway, in the order to try."""
        return ways_to(self.addresses, self.udp_port, self.relay)

    @classmethod
    def of_ticket(cls, ticket: Ticket) -> Membership:
        """What a ticket says."""
        return cls(ticket.gateway, ticket.addresses, ticket.secret, ticket.udp_port, ticket.relay)

    @classmethod
    def load(cls, home: Path) -> Membership:
        """The gateway this home joined before.

        Raises:
            PrivateFileFault: There is none, or its file is damaged or open to others.
        """
        path = home / FILE
        try:
            content = read_private(path, bytes_max=FILE_BYTES_MAX)
        except FileNotFoundError:
            raise PrivateFileFault(
                f"the home {home} has joined no gateway yet",
                hint="join with a ticket: atoll join TICKET; its operator makes one with"
                " atoll invite",
            ) from None
        try:
            found = msgspec.json.decode(content, type=_File)
            addresses = tuple(HostPort.parse(address) for address in found.addresses)
            check_relay(found.relay)
            return cls(parse_node_id(found.gateway), addresses, "", found.udp_port, found.relay)
        except (ValueError, LinkFault) as error:
            raise PrivateFileFault(
                f"{path} cannot be read: {error}", hint="join again with a ticket"
            ) from error

    def save(self, home: Path) -> None:
        """Remember the gateway.

        Raises:
            PrivateFileFault: The home cannot be written.
        """
        addresses = tuple(str(address) for address in self.addresses)
        file = _File(self.gateway, addresses, self.udp_port, self.relay)
        write_private(home / FILE, msgspec.json.encode(file) + b"\n", replace=True)


def has_joined(home: Path) -> bool:
    """Whether the home belongs to a gateway."""
    return (home / FILE).exists()


def forget(home: Path) -> None:
    """The home belongs to no gateway any more."""
    (home / FILE).unlink(missing_ok=True)
