"""A node that is in, and where it can be dialled."""

from __future__ import annotations

from dataclasses import dataclass, field

from atoll.domain.address import ADDRESSES_MAX, Address, HostPort
from atoll.domain.control import (
    Fetching,
    Join,
    NotPrefetched,
    Prefetched,
    Prefetching,
    Ready,
    StageReport,
    StandsBy,
)
from atoll.domain.ids import Epoch
from atoll.domain.lent_memory import Lent
from atoll.domain.measure import Measured
from atoll.net.link import ControlLink


@dataclass(slots=True)
class Member:
    """A node that is in; a spare has no place."""

    place: int | None
    name: str
    owner: str
    join: Join
    link: ControlLink
    epoch: Epoch | None = None
    """The ring that it has a part in, or had last; what it says of others counts no more."""
    ready: Ready | None = None
    report: StageReport | None = None
    fetching: Fetching | None = None
    measured: Measured | None = None
    """What it measured of itself; None: it has not answered, or could not."""
    holds: set[tuple[int, int]] = field(default_factory=set)
    """Layer ranges whose shards it had in this gateway's time."""
    stands_by: set[tuple[int, int]] = field(default_factory=set)
    """Layer ranges that it has loaded in case who serves them is lost."""
    prefetches: int = 0
    """How many shards it was asked to fetch ahead; the last one's number."""
    prefetch: Prefetching | Prefetched | NotPrefetched | None = None
    """What it said last of one of them."""
    slower: float = 1.0
    """What its stage takes ÷ what was measured for it, where the two have parted."""
    lent: Lent | None = None
    """What it said last of the memory that it lends."""
    resting: bool = False
    told_to_stay: bool = False

    @property
    def lends(self) -> bool:
        """Whether it only lends memory, and has no part in any ring."""
        return self.join.lends_bytes > 0

    def heard(self, message: Ready | Fetching | StageReport | StandsBy) -> bool:
        """Note what it says of a stage; whether more of a shard is here than before."""
        match message:
            case Ready():
                self.ready, self.fetching = message, None
            case Fetching(_, here_bytes):
                before, self.fetching = self.fetching, message
                return before is None or here_bytes > before.here_bytes
            case StageReport():
                self.report = message
            case StandsBy(_, first, last):
                self.stands_by.add((first, last))
        return False


def address_of(member: Member) -> Address:
    """Where a member can be dialled: as it says, filled in by what is seen from here."""
    said, link = member.join.address, member.link
    tls = HostPort(said.tls.host or link.peer_host, said.tls.port) if said.tls else None
    outside = outside_of(link)
    seen = (HostPort.parse(outside),) if outside else ()
    quic = tuple(dict.fromkeys((*(p for p in seen if p.is_number), *said.quic)))
    tls = tls if tls and tls.host else None
    # Of all places no more than others take: they would end their link with us.
    return Address(tls, quic[: ADDRESSES_MAX - (tls is not None)], said.relay)


def outside_of(link: ControlLink) -> str:
    """Where a node's UDP port is seen from here, host:port; empty if it is not.

    The node's own machine may know another address.
    """
    if link.carrier != "quic" or not link.peer_host or not link.peer_port:
        return ""
    return str(HostPort(link.peer_host, link.peer_port))
