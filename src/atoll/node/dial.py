"""Dialling the gateway: at each address that it is known by, until its key answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Protocol, TypeVar

from msgspec.structs import replace

from atoll.domain.address import ADDRESSES_MAX, Address, HostPort
from atoll.domain.control import Leave, Refusal
from atoll.domain.errors import LinkFault
from atoll.domain.ids import NodeId
from atoll.net.address import is_loopback, is_public
from atoll.net.identity import Identity
from atoll.net.link import BulkLink, ControlInbox, ControlLink, NotWelcome, WrongPeer
from atoll.net.transport import Transport, Way, open_transport
from atoll.node.membership import Membership

log = logging.getLogger(__name__)

ANSWER_S = 15.0
RETURN_ROUNDS = 3
"""How often a member tries all ways: after its relay was away, the gateway may take half a
minute to come back to it, as the package waits longer after each failure."""
OUTSIDE_TRIAL_S = 3.0
"""How long QUIC may take to stand beside a link over TLS."""
_LinkT_co = TypeVar("_LinkT_co", covariant=True)


async def dial_gateway(membership: Membership, transport: Transport) -> ControlLink:
    """A control link to the gateway; nothing is sent to anybody who holds another key.

    Raises:
        LinkFault: None of its addresses led to it; the reason of the last one.
    """
    at_relay = transport.endpoint is not None and membership.relay
    rounds = RETURN_ROUNDS if at_relay and not membership.secret else 1
    try:
        link = await _first_way(membership, transport.dial_control, rounds)
    except (NotWelcome, WrongPeer):
        raise
    except LinkFault as fault:
        if at_relay and membership.secret:
            raise LinkFault(
                fault.problem,
                hint="its relay lets a machine in only while the ticket is good; ask the gateway's"
                " operator for a new one (atoll invite)",
            ) from fault
        raise
    return await _seen_from_outside(link, membership, transport)


async def dial_gateway_bulk(membership: Membership, transport: Transport) -> BulkLink:
    """A bulk link to the gateway, otherwise as `dial_gateway`."""
    return await _first_way(membership, transport.dial_bulk)


class _Dial(Protocol[_LinkT_co]):
    def __call__(self, address: Address, *, expected: NodeId) -> Awaitable[_LinkT_co]: ...


async def _first_way(membership: Membership, dial: _Dial[_LinkT_co], rounds: int = 1) -> _LinkT_co:
    fault = LinkFault("the gateway is known by no address", hint="join again with a ticket")
    for way in membership.ways * rounds:
        try:
            return await dial(way, expected=membership.gateway)
        except LinkFault as found:
            fault = found
    raise fault


async def _seen_from_outside(
    link: ControlLink, membership: Membership, transport: Transport
) -> ControlLink:
    """`link`, or one over QUIC in its place where a router translates our address.

    There a TCP port of ours is good for nothing, and neighbours get through to
    our UDP port only where the gateway sees it and can tell them.
    """
    endpoint = transport.endpoint if transport.way == "auto" else None
    translated = is_public(link.peer_host) and not is_public(link.local_host)
    if endpoint is None or link.carrier != "tls" or not membership.udp_port or not translated:
        return link
    there = Address(quic=(HostPort(link.peer_host, membership.udp_port),))
    try:
        async with asyncio.timeout(OUTSIDE_TRIAL_S):
            better = await endpoint.dial_control(
                there, expected=membership.gateway, settings=transport.settings
            )
    except (LinkFault, TimeoutError) as problem:
        log.info("dial.no_quic_to_gateway problem=%s", problem or "no answer in time")
        return link
    link.close()
    return better


def gateway_place(said: Address, link: ControlLink, udp_port: int) -> Address:
    """Where to dial the gateway for windows: as it says, if it is at that address for us.

    Behind a router that forwards a port it knows only its address at home; then
    it is dialled where it answers us.

    Args:
        said: Its address in the plan.
        link: Our control link to it.
        udp_port: That of the ticket; 0 for none.
    """
    known = {place.host for place in (*said.quic, *((said.tls,) if said.tls else ()))}
    if not link.peer_host or link.peer_host in known:
        return said  # met at the relay, or no router is in between
    place = HostPort(link.peer_host, link.peer_port)
    if link.carrier == "tls":
        seen = (HostPort(link.peer_host, udp_port),) if udp_port else ()
        quic = tuple(dict.fromkeys((*seen, *said.quic)))[:ADDRESSES_MAX]
        return replace(said, tls=place, quic=quic)
    return replace(said, quic=tuple(dict.fromkeys((place, *said.quic)))[:ADDRESSES_MAX])


async def part_for_good(membership: Membership, identity: Identity) -> None:
    """Ask the gateway to forget this node.

    Raises:
        LinkFault: It cannot be reached, or did not answer.
    """
    relays = [membership.relay] if membership.relay else []
    async with open_transport(identity, way=way_for(membership), relays=relays) as transport:
        link = await dial_gateway(membership, transport)
        await _say_goodbye(link)


def way_for(membership: Membership, wish: Way = "auto") -> Way:
    """The wish, except that nothing but TCP is needed to a gateway on this machine."""
    here = is_here(membership) and not membership.relay
    return "tls" if wish == "auto" and here else wish


def is_here(membership: Membership) -> bool:
    """Whether the gateway runs on this machine, for this machine."""
    return all(is_loopback(place.host) for place in membership.addresses)


async def _say_goodbye(link: ControlLink) -> None:
    try:
        inbox = ControlInbox(link)
        link.send(Leave("for good"))
        async with asyncio.timeout(ANSWER_S):
            async for message in inbox:
                if isinstance(message, Leave):
                    return
                if isinstance(message, Refusal):
                    raise LinkFault(message.problem, hint=message.hint)
    except TimeoutError:
        raise LinkFault(f"the gateway did not answer within {ANSWER_S:g} s") from None
    finally:
        link.close()
        await link.wait_closed()
