"""Who this process is: an Ed25519 key in a private file, and a gateway's incarnation.

A node's name is its public key in hex, so whoever can sign is who it says.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from atoll.domain.errors import ProtocolFault
from atoll.domain.ids import NodeId
from atoll.net.private_file import PrivateFileFault, read_private, write_private

KEY_FILE_BYTES_MAX = 4096
INCARNATION_MAX = 2**53
_NODE_ID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Identity:
    """A key pair and the name that goes with it. Its text form never shows the key."""

    node_id: NodeId
    private_key: Ed25519PrivateKey = field(repr=False, compare=False)

    @classmethod
    def generate(cls) -> Identity:
        """A new identity from the system's random source."""
        return cls.from_key(Ed25519PrivateKey.generate())

    @classmethod
    def from_key(cls, key: Ed25519PrivateKey) -> Identity:
        """The identity whose private key is `key`."""
        return cls(node_id_of(key.public_key()), key)

    @classmethod
    def create(cls, path: Path) -> Identity:
        """A new identity, kept in a new file at `path` (PEM, mode 0600).

        Raises:
            PrivateFileFault: There is a file already, or none can be written.
        """
        identity = cls.generate()
        pem = identity.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        try:
            write_private(path, pem, replace=False)
        except FileExistsError:
            raise PrivateFileFault(
                f"{path} already exists", hint="an identity is never overwritten; name another file"
            ) from None
        return identity

    @classmethod
    def load(cls, path: Path) -> Identity:
        """The identity kept at `path`.

        Raises:
            PrivateFileFault: The file is missing, open to others, somebody
                else's, or not an Ed25519 private key.
        """
        try:
            content = read_private(path, bytes_max=KEY_FILE_BYTES_MAX)
        except FileNotFoundError:
            raise PrivateFileFault(
                f"there is no identity at {path}", hint="check the path"
            ) from None
        try:
            key = load_pem_private_key(content, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise PrivateFileFault(
                f"{path} holds no private key that can be read",
                hint="restore it from a copy, or move it away to get a new identity",
            ) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise PrivateFileFault(
                f"{path} holds a key of another kind than Ed25519",
                hint="name the file that holds this machine's identity",
            )
        return cls.from_key(key)

    @classmethod
    def load_or_create(cls, path: Path) -> Identity:
        """The identity kept at `path`, made there first where there is none.

        Raises:
            PrivateFileFault: As `load` and `create`.
        """
        with contextlib.suppress(FileNotFoundError):
            path.lstat()
            return cls.load(path)
        try:
            return cls.create(path)
        except PrivateFileFault:
            # Another process made it in between: then that one is ours too.
            if path.exists():
                return cls.load(path)
            raise

    def sign(self, message: bytes) -> bytes:
        """The Ed25519 signature of `message`, 64 bytes."""
        return self.private_key.sign(message)


def node_id_of(key: Ed25519PublicKey) -> NodeId:
    """The name that goes with a public key."""
    return NodeId(key.public_bytes_raw().hex())


def parse_node_id(text: str) -> NodeId:
    """`text` as a node's name.

    Raises:
        ProtocolFault: It is not 64 lower-case hex digits.
    """
    if _NODE_ID.fullmatch(text) is None:
        raise ProtocolFault("a node's name must be 64 lower-case hex digits")
    return NodeId(text)


def verify(signer: NodeId, signature: bytes, message: bytes) -> bool:
    """Whether `signature` is `signer`'s over `message`. Never raises on what peers send."""
    if _NODE_ID.fullmatch(signer) is None:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(signer)).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def next_incarnation(path: Path) -> int:
    """Raise the gateway's incarnation kept at `path` by one and return it; the first is 1.

    It is on the disk before it is returned, so no two starts ever use the same
    one, whatever crashes in between.

    Raises:
        PrivateFileFault: The file is malformed, open to others, or cannot be
            written, or its last number is reached.
    """
    lock = path.with_name(f".{path.name}.lock")
    try:
        lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise PrivateFileFault(
            f"cannot write {lock}: {error.strerror}", hint="name a folder you can write to"
        ) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        raised = _read_incarnation(path) + 1
        if raised > INCARNATION_MAX:
            raise PrivateFileFault(f"the counter in {path} is at its end")
        write_private(path, b"%d\n" % raised, replace=True)
        return raised
    finally:
        os.close(fd)


def _read_incarnation(path: Path) -> int:
    try:
        content = read_private(path, bytes_max=32)
    except FileNotFoundError:
        return 0
    if re.fullmatch(rb"[0-9]{1,17}\n?", content) is None:
        raise PrivateFileFault(
            f"{path} holds no counter",
            hint="restore it from a copy; a counter that starts again makes nodes drop new plans",
        )
    return int(content)
