"""Gateways on the same network, found by multicast DNS (RFC 6762, 6763).

    _atoll._tcp.local.    TXT: txtvers=1 key=HEX version=... name=... udp=PORT

What is heard comes from anybody on the network, and is only ever a place to dial
and a key to expect there: whose key that is, people decide (`pairing`).
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from atoll.domain.address import ADDRESSES_MAX, HostPort
from atoll.domain.errors import LinkFault
from atoll.domain.ids import NodeId
from atoll.net.identity import parse_node_id
from atoll.net.link import peer_text

if TYPE_CHECKING:
    from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

log = logging.getLogger(__name__)

SERVICE = "_atoll._tcp.local."
LOOK_S = 3.0
"""Answers come within a fraction of a second; machines that sleep take longer."""
FOUND_MAX = 32
"""Announcements that are looked at; anybody can make any number."""
NAME_CHARS_MAX = 40
"""An announcement's label has at most 63 bytes."""
VERSION_CHARS_MAX = 32
SHORT_KEY_CHARS = 12
_RESOLVE_MS = 2000


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a gateway tells its network: who it is, and where.

    `hosts` are addresses by number, `port` that of TCP, `udp_port` that of QUIC (0: none).
    """

    name: str
    key: NodeId
    hosts: tuple[str, ...]
    port: int
    udp_port: int
    version: str


@dataclass(frozen=True, slots=True)
class FoundGateway:
    """What somebody on the network says of a gateway; checked in form, and no further."""

    name: str
    key: NodeId
    places: tuple[HostPort, ...]
    udp_port: int = 0
    version: str = ""

    @property
    def short_key(self) -> str:
        """Enough of its key to tell it from others."""
        return self.key[:SHORT_KEY_CHARS]


class NoGateway(LinkFault):
    """None was found, or not the one that was meant."""


@contextlib.asynccontextmanager
async def announced(
    announcement: Announcement, *, host: str = "", service: str = SERVICE
) -> AsyncIterator[None]:
    """Have the gateway announced inside the block, and taken back after it.

    Args:
        announcement: What to tell.
        host: The address of the interface to tell it on; empty: all interfaces.
        service: The kind of service; another one keeps apart from everybody else.

    Raises:
        LinkFault: The network cannot be told.
    """
    from zeroconf import Error, ServiceInfo  # noqa: PLC0415 - slow, and rarely needed

    name = peer_text(announcement.name, NAME_CHARS_MAX).replace(".", "-") or "atoll"
    while len(name.encode()) > NAME_CHARS_MAX:
        name = name[:-1]
    label = f"{name} {announcement.key[:SHORT_KEY_CHARS]}"
    info = ServiceInfo(
        service,
        f"{label}.{service}",
        addresses=[ipaddress.ip_address(number).packed for number in announcement.hosts],
        port=announcement.port,
        server=f"atoll-{announcement.key[:SHORT_KEY_CHARS]}.local.",
        properties={
            "txtvers": "1",
            "key": announcement.key,
            "version": announcement.version,
            "name": name,
            "udp": str(announcement.udp_port),
        },
    )
    async with _zeroconf(host) as zeroconf:
        try:
            await (await zeroconf.async_register_service(info, allow_name_change=True))
        except (OSError, Error) as error:
            raise _unusable(error) from error
        try:
            yield
        finally:
            with contextlib.suppress(OSError, Error):
                await (await zeroconf.async_unregister_service(info))


async def look_for_gateways(
    *, host: str = "", look_s: float = LOOK_S, service: str = SERVICE
) -> tuple[FoundGateway, ...]:
    """The gateways that announce themselves on this network, by name.

    Args:
        host: The address of the interface to look on; empty: all interfaces.
        look_s: For how long.
        service: As for `announced`.

    Raises:
        LinkFault: The network cannot be asked.
    """
    from zeroconf import ServiceStateChange  # noqa: PLC0415 - as above
    from zeroconf.asyncio import AsyncServiceBrowser  # noqa: PLC0415

    heard: asyncio.Queue[str] = asyncio.Queue(maxsize=FOUND_MAX)
    known: set[str] = set()

    def note(*, name: str, state_change: ServiceStateChange, **_more: object) -> None:
        if state_change is ServiceStateChange.Added and name not in known and not heard.full():
            known.add(name)
            heard.put_nowait(name)

    found: list[FoundGateway] = []
    async with _zeroconf(host) as zeroconf:
        browser = AsyncServiceBrowser(zeroconf.zeroconf, service, handlers=[note])
        try:
            async with asyncio.timeout(look_s), asyncio.TaskGroup() as tasks:
                for _ in range(FOUND_MAX):
                    name = await heard.get()
                    tasks.create_task(_resolve(zeroconf, service, name, found), name="resolve")
        except TimeoutError:
            log.debug("discovery.looked found=%d", len(found))
        finally:
            await browser.async_cancel()
    return merged(found)


async def _resolve(
    zeroconf: AsyncZeroconf, service: str, name: str, found: list[FoundGateway]
) -> None:
    """Ask for the rest of an announcement, and note what can be used of it."""
    from zeroconf import Error  # noqa: PLC0415 - as above

    try:
        info = await zeroconf.async_get_service_info(service, name, timeout=_RESOLVE_MS)
        gateway = read_announcement(info) if info else None
    except (OSError, Error, ValueError) as error:
        log.info("discovery.unusable name=%s problem=%s", peer_text(name, 80), error)
        return
    if gateway is not None:
        found.append(gateway)


def read_announcement(info: AsyncServiceInfo) -> FoundGateway | None:
    """What an announcement says; None where it names no key or no place to dial."""
    texts = _texts(info.properties)
    try:
        key = parse_node_id(texts.get("key", ""))
    except LinkFault:
        return None
    port = info.port or 0
    udp = texts.get("udp", "")
    udp_port = int(udp) if udp.isascii() and udp.isdigit() and len(udp) <= 5 else 0
    hosts = info.parsed_addresses()[:ADDRESSES_MAX]
    if not hosts or not 1 <= port <= 65535:
        return None
    return FoundGateway(
        peer_text(texts.get("name", ""), NAME_CHARS_MAX) or "a gateway without a name",
        key,
        tuple(HostPort(number, port) for number in hosts),
        udp_port if udp_port <= 65535 else 0,
        peer_text(texts.get("version", ""), VERSION_CHARS_MAX),
    )


def _texts(properties: Mapping[bytes, bytes | None]) -> dict[str, str]:
    return {
        key.decode("ascii", "replace").lower(): (value or b"").decode("utf-8", "replace")
        for key, value in properties.items()
    }


def merged(found: list[FoundGateway]) -> tuple[FoundGateway, ...]:
    """One entry for each key, with all places that were said of it; sorted by name and key."""
    by_key: dict[NodeId, FoundGateway] = {}
    for gateway in found:
        known = by_key.setdefault(gateway.key, gateway)
        places = tuple(dict.fromkeys((*known.places, *gateway.places)))[:ADDRESSES_MAX]
        by_key[gateway.key] = replace(known, places=places)
    return tuple(sorted(by_key.values(), key=lambda gateway: (gateway.name, gateway.key)))


def choose(found: tuple[FoundGateway, ...], wanted: str) -> FoundGateway:
    """The one that is meant: by name or the beginning of its key, or the only one there is.

    Raises:
        NoGateway: None or several are.
    """
    meant = [g for g in found if wanted in {"", g.name} or g.key.startswith(wanted)]
    if len(meant) == 1:
        return meant[0]
    called = f" called {peer_text(wanted, 64)!r}" if wanted else ""
    if not meant:
        others = f"; found: {_listed(found)}" if found else ""
        raise NoGateway(
            f"no gateway{called} announces itself on this network{others}",
            hint="ask its operator for a ticket (atoll invite), and join with that: atoll join"
            " TICKET; a gateway announces itself if it listens with --link-host 0.0.0.0",
        )
    raise NoGateway(
        f"{len(meant)} gateways{called} announce themselves on this network: {_listed(meant)}",
        hint="name the one you mean by the beginning of its key: atoll join --gateway KEY",
    )


def _listed(gateways: tuple[FoundGateway, ...] | list[FoundGateway]) -> str:
    return ", ".join(f"{g.name} (key {g.short_key}, at {g.places[0].host})" for g in gateways)


@contextlib.asynccontextmanager
async def _zeroconf(host: str) -> AsyncIterator[AsyncZeroconf]:
    from zeroconf import InterfaceChoice, IPVersion  # noqa: PLC0415 - as above
    from zeroconf.asyncio import AsyncZeroconf  # noqa: PLC0415

    interfaces = [host] if host else InterfaceChoice.All
    try:
        if host:
            _check_interface(host)
        zeroconf = AsyncZeroconf(interfaces=interfaces, ip_version=IPVersion.V4Only)
    except (OSError, ValueError, RuntimeError) as error:
        raise _unusable(error) from error
    try:
        yield zeroconf
    finally:
        await zeroconf.async_close()


def _check_interface(host: str) -> None:
    """The package itself leaves a socket open where the address is not this machine's.

    Raises:
        OSError: It is not.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))


def _unusable(error: Exception) -> LinkFault:
    return LinkFault(
        f"gateways cannot be looked for or announced by multicast DNS here: {error}",
        hint="use a ticket: atoll invite there, atoll join TICKET here",
    )
