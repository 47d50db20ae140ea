"""Dialing links over TLS 1.3, and what both sides of TLS need.

The server shows a self-signed certificate of its identity key and the client
compares that key with the one it expects: there are no authorities and no
names. Python's `ssl` cannot take unknown self-signed certificates from
clients, so these prove their key inside (`handshake`).
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import secrets
import socket
import ssl
import tempfile
from collections.abc import Callable
from typing import TypeVar, cast

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from atoll.domain.errors import LinkFault
from atoll.domain.ids import NodeId
from atoll.net.handshake import NONCE_BYTES, ClientHandshake
from atoll.net.identity import Identity, node_id_of
from atoll.net.link import (
    BULK,
    CONTROL,
    DATA,
    MEMORY,
    TIMING,
    BulkLink,
    ControlLink,
    DataLink,
    Kind,
    LinkSettings,
    MemoryLink,
    TimingLink,
    WrongPeer,
)
from atoll.net.link_kinds import (
    LINK_TYPES,
    StreamBulkLink,
    StreamControlLink,
    StreamDataLink,
)
from atoll.net.memory_link import StreamMemoryLink
from atoll.net.stream_link import StreamLink
from atoll.net.timing_link import StreamTimingLink

_L = TypeVar("_L", bound=StreamLink)


def server_context(identity: Identity) -> ssl.SSLContext:
    """TLS 1.3 as the holder of `identity`, with a certificate made here and now."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    # `load_cert_chain` takes files only. The key in them is under a password
    # that exists in memory alone, so that not even a crash leaves it behind.
    password = secrets.token_bytes(32).hex().encode()
    key = identity.private_key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password)
    )
    with tempfile.NamedTemporaryFile(prefix="atoll-", suffix=".pem") as file:
        file.write(_certificate(identity).public_bytes(Encoding.PEM) + key)
        file.flush()
        context.load_cert_chain(file.name, password=password)
    return context


def client_context() -> ssl.SSLContext:
    """TLS 1.3 that takes any certificate: the caller compares its key itself."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _certificate(identity: Identity) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "atoll")])
    # Nobody looks at the dates: the key is pinned and clocks of nodes differ.
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(identity.private_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(2120, 1, 1, tzinfo=datetime.UTC))
        .sign(identity.private_key, None)
    )


def _shown_key(transport: asyncio.Transport) -> NodeId:
    """Whose key the server proved to hold.

    TLS 1.3 checks the handshake's signature against the certificate's key even
    where the certificate itself is not verified.
    """
    tls = transport.get_extra_info("ssl_object")
    shown = tls.getpeercert(binary_form=True)
    try:
        # A stranger's certificate can fail in more ways than are documented.
        key = x509.load_der_x509_certificate(shown or b"").public_key()
    except Exception as error:
        raise WrongPeer("the server's certificate cannot be read") from error
    if not isinstance(key, Ed25519PublicKey):
        raise WrongPeer("the server's certificate is not of an Ed25519 key")
    return node_id_of(key)


def set_socket(transport: asyncio.Transport) -> None:
    """Set what every link's socket has: no delay of small frames, keep-alive."""
    sock = transport.get_extra_info("socket")
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def set_bulk(transport: asyncio.Transport) -> None:
    """Let a sender of shards or blobs keep its pace where packets get lost, if this system can.

    Cubic, the usual control, halves its pace for each loss: at 20 ms and 1 % it
    brings a sixth of what BBR does.
    """
    if hasattr(socket, "TCP_CONGESTION"):
        sock = transport.get_extra_info("socket")
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"bbr")


class Gate(asyncio.Protocol):
    """A connection in its handshake; `done` holds the link or the reason there is none."""

    def __init__(self, settings: LinkSettings) -> None:
        self._settings = settings
        self._transport: asyncio.Transport
        self.done: asyncio.Future[StreamLink] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TLS stands."""
        # A cast, as uvloop's transports do not derive from asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._guard(self._opened)

    def data_received(self, data: bytes) -> None:
        """The next bytes of the handshake."""
        if not self.done.done():
            self._guard(lambda: self._received(data))

    def connection_lost(self, exc: Exception | None) -> None:
        """It ended before it was a link."""
        self._fail(
            LinkFault(
                "the connection ended during the handshake" + (f": {exc}" if exc else ""),
                hint="is that an atoll of the same version?",
            )
        )

    def abort(self) -> None:
        """Give up, for example when the time is over."""
        self.done.cancel()
        if hasattr(self, "_transport"):
            self._transport.abort()

    def _guard(self, step: Callable[[], None]) -> None:
        try:
            step()
        except LinkFault as fault:
            self._fail(fault)
            self._transport.close()

    def _fail(self, reason: LinkFault) -> None:
        if not self.done.done():
            self.done.set_exception(reason)

    def _opened(self) -> None:
        raise NotImplementedError

    def _received(self, data: bytes) -> None:
        raise NotImplementedError

    def _finish(self, link: type[StreamLink], peer: NodeId, early: bytes) -> None:
        self.done.set_result(link(self._transport, peer, self._settings, early))


class _ClientGate(Gate):
    def __init__(
        self, expected: NodeId, identity: Identity, kind: Kind, settings: LinkSettings
    ) -> None:
        super().__init__(settings)
        self._expected = expected
        self._kind: Kind = kind
        self._handshake = ClientHandshake(
            expected, identity, kind, secrets.token_bytes(NONCE_BYTES)
        )

    def _opened(self) -> None:
        set_socket(self._transport)
        if self._kind == MEMORY:
            set_bulk(self._transport)  # here the one who dials sends much, too
        shown = _shown_key(self._transport)
        if shown != self._expected:
            raise WrongPeer(
                f"the other side holds key {shown[:12]}…, expected was {self._expected[:12]}…",
                hint="if it was set up anew, get a new ticket from its operator",
            )

    def _received(self, data: bytes) -> None:
        answer = self._handshake.feed(data)
        if answer:
            self._transport.write(answer)
        if self._handshake.welcomed:
            self._finish(LINK_TYPES[self._kind], self._expected, self._handshake.rest)


async def dial_control(
    host: str,
    port: int,
    *,
    expected: NodeId,
    identity: Identity,
    settings: LinkSettings | None = None,
) -> ControlLink:
    """A control link to the holder of key `expected` at `host`; `start` it next.

    Raises:
        WrongPeer: Another key answered; nothing was sent to it.
        NotWelcome: It refuses us, in its own words.
        LinkFault: Nobody answers there, or not in time, or not in our language.
    """
    settings = settings or LinkSettings()
    gate = _ClientGate(expected, identity, CONTROL, settings)
    return await _dial(host, port, gate, StreamControlLink, settings)


async def dial_data(
    host: str,
    port: int,
    *,
    expected: NodeId,
    identity: Identity,
    settings: LinkSettings | None = None,
) -> DataLink:
    """A data link to the holder of key `expected` at `host`; otherwise as `dial_control`."""
    settings = settings or LinkSettings()
    gate = _ClientGate(expected, identity, DATA, settings)
    return await _dial(host, port, gate, StreamDataLink, settings)


async def dial_bulk(
    host: str,
    port: int,
    *,
    expected: NodeId,
    identity: Identity,
    settings: LinkSettings | None = None,
) -> BulkLink:
    """A bulk link to the holder of key `expected` at `host`; otherwise as `dial_control`."""
    settings = settings or LinkSettings()
    gate = _ClientGate(expected, identity, BULK, settings)
    return await _dial(host, port, gate, StreamBulkLink, settings)


async def dial_timing(
    host: str,
    port: int,
    *,
    expected: NodeId,
    identity: Identity,
    settings: LinkSettings | None = None,
) -> TimingLink:
    """A timing link to the holder of key `expected` at `host`; otherwise as `dial_control`."""
    settings = settings or LinkSettings()
    gate = _ClientGate(expected, identity, TIMING, settings)
    return await _dial(host, port, gate, StreamTimingLink, settings)


async def dial_memory(
    host: str,
    port: int,
    *,
    expected: NodeId,
    identity: Identity,
    settings: LinkSettings | None = None,
) -> MemoryLink:
    """A memory link to the holder of key `expected` at `host`; otherwise as `dial_control`."""
    settings = settings or LinkSettings()
    gate = _ClientGate(expected, identity, MEMORY, settings)
    return await _dial(host, port, gate, StreamMemoryLink, settings)


async def _dial(
    host: str, port: int, gate: _ClientGate, link_type: type[_L], settings: LinkSettings
) -> _L:
    where = f"{host}:{port}"
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(settings.handshake_s):
            await loop.create_connection(
                lambda: gate,
                host,
                port,
                ssl=client_context(),
                server_hostname="",
                ssl_handshake_timeout=settings.handshake_s,
                ssl_shutdown_timeout=settings.close_s,
            )
            link = await gate.done
    except TimeoutError:
        gate.abort()
        raise LinkFault(
            f"{where} did not answer within {settings.handshake_s:g} s",
            hint="check the address and that a firewall lets it through",
        ) from None
    except LinkFault:
        raise
    except ConnectionRefusedError:
        raise LinkFault(
            f"nobody listens at {where}", hint="start the other side, or check the address"
        ) from None
    except ssl.SSLError as error:
        raise LinkFault(
            f"{where} does not speak TLS 1.3: {error.reason or error}",
            hint="check the port: something else may be listening there",
        ) from error
    except (OSError, UnicodeError) as error:
        # A host that is no name ends in the codec for names, not in a look-up.
        reason = getattr(error, "strerror", None) or error
        raise LinkFault(
            f"cannot reach {where}: {reason}", hint="check address and network"
        ) from error
    except asyncio.CancelledError:
        gate.abort()
        raise
    assert isinstance(link, link_type)
    return link
