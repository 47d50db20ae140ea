"""`atoll relay`: where nodes meet that cannot reach each other."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from atoll.cli.running import run_until_stopped
from atoll.cli.screen import say
from atoll.cli.settings import HomeFlags, flags
from atoll.domain.errors import BadRequest
from atoll.domain.ids import NodeId
from atoll.gateway.serve import IDENTITY_FILE
from atoll.members.register import REGISTER_FILE, EnrolledNode, Register
from atoll.net.identity import Identity
from atoll.net.relay import Guests, IsMember, open_relay

PORT_DEFAULT = 8644


@flags
class RelayFlags(HomeFlags):
    """Options of `atoll relay`."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 lets in nodes of other machines."""

    port: Annotated[int, Parameter(validator=Number(gte=0, lte=65535))] = PORT_DEFAULT
    """Port to listen on; 0 takes any free one."""

    tls_cert: Path | None = None
    """Certificate (PEM) that the nodes' systems trust; without one the address is http://."""

    tls_key: Path | None = None
    """Private key of that certificate (PEM)."""


def relay(*, options: RelayFlags | None = None) -> None:
    """Run a relay: it passes packets between nodes that cannot reach each other.

    It lets in the gateway of its home and the nodes enrolled there; who holds a ticket that is
    still good reaches the gateway alone, to join. Packets are encrypted from end to end; a relay
    sees who talks with whom, and how much. The gateway tells its nodes where it is:
    `atoll serve ... --relay http://HOST:PORT`. Stop it with Ctrl-C.

    Example: `atoll relay --host 0.0.0.0`
    """
    options = options or RelayFlags()
    home = options.home_dir()
    gateway = Identity.load_or_create(home / IDENTITY_FILE).node_id
    register = Register(home / REGISTER_FILE)

    is_member = membership(gateway, register)
    guests = Guests(gateway, register.guest_places)
    tls = certificate(options.tls_cert, options.tls_key)

    async def serve() -> None:
        async with open_relay(
            options.host, options.port, is_member=is_member, guests=guests, tls=tls
        ) as opened:
            scheme = "https" if tls else "http"
            say(f"relaying at {scheme}://{options.host}:{opened.port}")
            await asyncio.Event().wait()

    stopped = run_until_stopped(serve())
    if stopped is not None:
        say(f"stopped by {stopped.name}")


def membership(gateway: NodeId, register: Register) -> IsMember:
    """Who may meet at the gateway's relay: itself, and whom it let in and did not revoke."""
    seen: tuple[EnrolledNode, ...] = ()
    enrolled: frozenset[NodeId] = frozenset()

    def is_member(node: NodeId) -> bool:
        nonlocal seen, enrolled
        nodes = register.nodes()
        if nodes is not seen:  # the register is read again only when its file changed
            seen = nodes
            enrolled = frozenset(entry.node for entry in nodes if not entry.revoked)
        return node == gateway or node in enrolled

    return is_member


def certificate(cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """TLS with this certificate; None without one.

    Raises:
        BadRequest: Only one half is given, or they cannot be used.
    """
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise BadRequest("--tls-cert and --tls-key go together", hint="give both or neither")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert.expanduser(), key.expanduser())
    except (OSError, ssl.SSLError) as error:
        raise BadRequest(
            f"the TLS certificate or its key cannot be used: {error}",
            hint="both are PEM files, and the key belongs to the certificate",
        ) from error
    return context
