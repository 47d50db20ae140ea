"""The ports at which nodes found the gateway last, so that they find it again.

    HOME/link-ports   TCP and UDP, where the system chose them

A node that comes back dials the port that it joined at.
"""

from __future__ import annotations

import logging
import re
import socket
from dataclasses import dataclass
from pathlib import Path

from atoll.net.private_file import PrivateFileFault, read_private, write_private

log = logging.getLogger(__name__)

FILE = "link-ports"
_CONTENT = re.compile(rb"(\d{1,5}) (\d{1,5})\n")


@dataclass(frozen=True, slots=True)
class LinkPorts:
    """Where to listen for nodes; 0: wherever there is room."""

    tcp: int = 0
    udp: int = 0


def choose_ports(home: Path, host: str, asked: int) -> LinkPorts:
    """Where to listen on `host`: at the port that is asked for, else where it was last."""
    # One number for TCP and UDP, so that a router needs one rule.
    return LinkPorts(asked, asked) if asked else last_ports(home, host)


def last_ports(home: Path, host: str) -> LinkPorts:
    """Those of the last gateway with this home, as far as they are free on `host`."""
    try:
        content = read_private(home / FILE, bytes_max=64)
    except FileNotFoundError:
        return LinkPorts()
    except PrivateFileFault as fault:
        log.warning("link_ports.unreadable problem=%s", fault)
        return LinkPorts()
    found = _CONTENT.fullmatch(content)
    if found is None:
        return LinkPorts()
    tcp, udp = (int(number) for number in found.groups())
    return LinkPorts(
        tcp if _is_free(host, tcp, socket.SOCK_STREAM) else 0,
        udp if _is_free(host, udp, socket.SOCK_DGRAM) else 0,
    )


def remember_ports(home: Path, ports: LinkPorts) -> None:
    """Keep them for the next start.

    Raises:
        PrivateFileFault: The home cannot be written.
    """
    write_private(home / FILE, b"%d %d\n" % (ports.tcp, ports.udp), replace=True)


def _is_free(host: str, port: int, kind: socket.SocketKind) -> bool:
    if not 0 < port < 1 << 16:
        return False
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=kind)[0]
        with socket.socket(family, kind) as trial:
            if kind == socket.SOCK_STREAM:
                # As a server does: connections of the last one may still be closing.
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
    except OSError:
        return False
    return True
