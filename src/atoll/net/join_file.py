"""The one-time join secret: made by the gateway, handed to a node by file or by hand.

A secret never stands in an argument or the environment, where other users of
the machine could read it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from pathlib import Path
from typing import Literal

import msgspec

from atoll.domain.errors import AtollError, LinkFault
from atoll.domain.ids import NodeId
from atoll.net.identity import parse_node_id
from atoll.net.private_file import PrivateFileFault, read_private, write_private

SECRET_BYTES = 32
OPEN_SECRETS_MAX = 4096
JOIN_FILE_BYTES_MAX = 4096


class JoinSecrets:
    """The secrets a gateway gave out and nobody used yet; only their hashes are kept."""

    def __init__(self) -> None:
        self._hashes: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._hashes)

    def create(self) -> str:
        """A new secret of 256 random bits, good for one join.

        Raises:
            AtollError: Too many are open.
        """
        if len(self._hashes) >= OPEN_SECRETS_MAX:
            raise AtollError(
                f"{OPEN_SECRETS_MAX} join secrets are unused", hint="use or restart before more"
            )
        secret = secrets.token_urlsafe(SECRET_BYTES)
        self._hashes.add(_hash(secret))
        return secret

    def redeem(self, secret: str) -> bool:
        """Whether `secret` was open; it no longer is. Takes as long for any wrong one."""
        claimed = _hash(secret)
        matching = [kept for kept in self._hashes if hmac.compare_digest(kept, claimed)]
        self._hashes.difference_update(matching)
        return bool(matching)


def _hash(secret: str) -> bytes:
    # One round is enough: nobody guesses 256 random bits.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


class JoinFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a node needs to join: where the gateway is, its key, and one secret."""

    host: str
    port: int
    gateway: NodeId
    secret: str
    version: Literal[1] = 1

    def __repr__(self) -> str:
        return f"JoinFile(host={self.host!r}, port={self.port}, gateway={self.gateway!r})"

    def text(self) -> str:
        """The file's content: JSON in one line."""
        return msgspec.json.encode(self).decode() + "\n"

    def write(self, path: Path) -> None:
        """Write it with mode 0600, all or nothing, in place of an older one.

        Raises:
            PrivateFileFault: The folder cannot be written.
        """
        write_private(path, self.text().encode(), replace=True)

    @classmethod
    def load(cls, path: Path) -> JoinFile:
        """The join file at `path`.

        Raises:
            PrivateFileFault: It is missing, open to others, or malformed.
        """
        try:
            content = read_private(path, bytes_max=JOIN_FILE_BYTES_MAX)
        except FileNotFoundError:
            raise PrivateFileFault(
                f"there is no join file at {path}", hint="the gateway writes it when it starts"
            ) from None
        return cls.parse(content.decode("utf-8", "replace"), source=str(path))

    @classmethod
    def parse(cls, text: str, *, source: str = "standard input") -> JoinFile:
        """The join file whose content is `text`; `source` names it in the error.

        Raises:
            PrivateFileFault: It is malformed. The message never quotes the text.
        """
        if len(text) > JOIN_FILE_BYTES_MAX:
            raise PrivateFileFault(
                f"{source} is longer than a join file can be", hint="pass the join file alone"
            )
        try:
            found = msgspec.json.decode(text, type=cls)
            parse_node_id(found.gateway)
        except (ValueError, RecursionError, LinkFault):
            problem = "is no join file"
        else:
            if not found.host or len(found.host) > 253 or not 1 <= found.port <= 65535:
                problem = "names no address that could be dialed"
            elif not 22 <= len(found.secret) <= 255:
                problem = "holds no secret that could be good"
            else:
                return found
        raise PrivateFileFault(f"{source} {problem}", hint="get a new one from the gateway")
