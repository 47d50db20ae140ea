"""Tickets: what somebody needs to bring a machine into a fleet.

A ticket names the gateway by its key and addresses and carries one secret. It
is one line of text, so that it can be sent, pasted, kept in a file, or read from
standard input; a checksum tells a line that was cut short or mistyped.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from pathlib import Path

import msgspec

from atoll.domain.address import BadAddress, HostPort, check_relay
from atoll.domain.errors import LinkFault
from atoll.domain.ids import NodeId
from atoll.net.private_file import PrivateFileFault, read_private, write_private

PREFIX = "atoll-ticket-"
VERSION = 1
TICKET_CHARS_MAX = 4096
ADDRESSES_MAX = 16
SECRET_CHARS = (22, 255)
_CHECK_BYTES = 4
_RELAY_LABEL = b"atoll relay guest 1"


class _Body(msgspec.Struct, frozen=True, array_like=True):
    """The fields in the order they are packed; later versions may add some at the end."""

    version: int
    gateway: bytes
    addresses: tuple[str, ...]
    secret: str
    expires: int
    udp_port: int = 0
    relay: str = ""


class Ticket(msgspec.Struct, frozen=True):
    """An invitation as it is handed over.

    `addresses` are tried in order; whoever answers has to hold the key
    `gateway`. `udp_port` is that of QUIC at the same hosts (0: none), `relay` a
    relay at which the gateway's nodes meet. `expires` is in seconds since 1970,
    for people: the gateway decides, by its own clock.
    """

    gateway: NodeId
    addresses: tuple[HostPort, ...]
    secret: str
    expires: int
    udp_port: int = 0
    relay: str = ""

    def __repr__(self) -> str:
        return f"Ticket(gateway={self.gateway!r}, addresses={self.addresses!r})"

    def text(self) -> str:
        """The ticket in one line, without its end."""
        body = msgspec.msgpack.encode(
            _Body(
                VERSION,
                bytes.fromhex(self.gateway),
                tuple(str(address) for address in self.addresses),
                self.secret,
                self.expires,
                self.udp_port,
                self.relay,
            )
        )
        packed = base64.urlsafe_b64encode(body + _checksum(body)).decode().rstrip("=")
        return PREFIX + packed

    def write(self, path: Path) -> None:
        """Write it with mode 0600, all or nothing, in place of an older one.

        Raises:
            PrivateFileFault: The folder cannot be written.
        """
        write_private(path, f"{self.text()}\n".encode(), replace=True)

    @classmethod
    def load(cls, path: Path) -> Ticket:
        """The ticket in the file at `path`.

        Raises:
            PrivateFileFault: It is missing, open to others, or malformed.
        """
        try:
            content = read_private(path, bytes_max=TICKET_CHARS_MAX)
        except FileNotFoundError:
            raise PrivateFileFault(
                f"there is no ticket at {path}",
                hint="give the ticket itself, or the file that holds it",
            ) from None
        return cls.parse(content.decode("utf-8", "replace"), source=str(path))

    @classmethod
    def parse(cls, text: str, *, source: str = "the ticket") -> Ticket:
        """The ticket whose text is `text`; `source` names it in the error.

        Raises:
            PrivateFileFault: It is malformed. The message never quotes the text.
        """
        problem = "is no ticket"
        try:
            body = _unpack(text.strip())
            if body.version != VERSION:
                problem = f"is a ticket of version {body.version}"
                raise ValueError
            if not SECRET_CHARS[0] <= len(body.secret) <= SECRET_CHARS[1]:
                problem = "holds no secret that could be good"
                raise ValueError
            if len(body.gateway) != 32 or not 1 <= len(body.addresses) <= ADDRESSES_MAX:
                problem = "names no gateway that could be dialed"
                raise ValueError
            addresses = tuple(HostPort.parse(address) for address in body.addresses)
            if not 0 <= body.udp_port <= 65535:
                raise BadAddress("the UDP port is out of range")
            check_relay(body.relay)
        except _Damaged as damage:
            problem = str(damage)
        except LinkFault:
            problem = "names no address that could be dialed"
        except (ValueError, RecursionError):
            pass
        else:
            return cls(
                NodeId(body.gateway.hex()),
                addresses,
                body.secret,
                body.expires,
                body.udp_port,
                body.relay,
            )
        raise PrivateFileFault(
            f"{source} {problem}", hint="copy it whole, or ask the gateway's operator for a new one"
        )


def relay_token(secret: str) -> str:
    """What somebody with a ticket shows at a relay; empty without a secret.

    Not the secret itself, which it does not tell: a relay may learn who comes,
    not come in his place.
    """
    if not secret:
        return ""
    key = secret.encode("utf-8", "surrogatepass")
    return hmac.new(key, _RELAY_LABEL, hashlib.sha256).hexdigest()


class _Damaged(Exception):
    """The text is that of a ticket, but not whole."""


def _unpack(text: str) -> _Body:
    if not text.startswith(PREFIX) or len(text) > TICKET_CHARS_MAX or len(text.split()) != 1:
        raise ValueError
    packed = text.removeprefix(PREFIX)
    try:
        content = base64.b64decode(packed + "=" * (-len(packed) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        raise _Damaged("is damaged: a part of it is missing or mistyped") from None
    body, check = content[:-_CHECK_BYTES], content[-_CHECK_BYTES:]
    if check != _checksum(body):
        raise _Damaged("is damaged: a part of it is missing or mistyped")
    return msgspec.msgpack.decode(body, type=_Body)


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()[:_CHECK_BYTES]
