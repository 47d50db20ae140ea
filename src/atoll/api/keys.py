"""API keys: made here, shown once, kept only as SHA-256.

A key is `atoll-<id>-<secret>`: the id (8 hex digits) is public and names the
key in lists and logs, the secret carries 256 bits of chance. A plain hash is
enough for such a secret: there is nothing to guess, so nothing to slow down.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from atoll.api.allowance import Allowance, Count, PriorityName
from atoll.domain.errors import AtollError
from atoll.net.records import RecordFile

KEYS_FILE = "keys.json"
"""Where they lie in a gateway's home."""
LOCAL_KEY_ID = "0" * 8
"""Of the key that a gateway makes at each start for its own machine: who held the last
one may go on with what it asked for."""
KEY_PREFIX = "atoll-"
KEY_CHARS_MAX = 256
KEYS_MAX = 10_000
NAME_CHARS_MAX = 64
_ID_BYTES = 4
_SECRET_BYTES = 32


class NoSuchKey(AtollError):
    """A key was named that does not exist, or a name that is taken."""

    exit_code = 2


class ApiKey(msgspec.Struct, frozen=True):
    """A key without its secret. `created` is in seconds since 1970."""

    id: str
    name: str
    created: int
    streams: Count = 0
    tokens_per_minute: Count = 0
    priority: PriorityName = "normal"

    @property
    def allowance(self) -> Allowance:
        """What it may use."""
        return Allowance(self.streams, self.tokens_per_minute, self.priority)


class NewKey(msgspec.Struct, frozen=True):
    """A key just made; `secret` is the whole key and is never seen again."""

    key: ApiKey
    secret: str


class _StoredKey(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is allowed is written where it is no default: older releases made keys without."""

    id: str
    name: str
    created: int
    sha256: str
    streams: Count = 0
    tokens_per_minute: Count = 0
    priority: PriorityName = "normal"


class _KeyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    keys: tuple[_StoredKey, ...]


class KeyStore:
    """The keys in one file. Several processes may use the same file.

    Every method raises `RecordFault` where the file cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._file = RecordFile(
            path,
            _KeyFile(1, ()),
            title="key file",
            remedy="restore it from a backup, or remove it and create new keys",
        )

    def create(self, name: str, allowance: Allowance | None = None, *, key_id: str = "") -> NewKey:
        """Make a key that may use so much, and store its hash.

        Args:
            name: What to call it.
            allowance: What it may use; None: as any key.
            key_id: A reserved id, for a key that is made anew under the same one; empty:
                an id of its own.

        Raises:
            NoSuchKey: The name is taken or unusable.
        """
        if not name.strip() or len(name) > NAME_CHARS_MAX or not name.isprintable():
            raise NoSuchKey(
                f"a key's name has 1 to {NAME_CHARS_MAX} printable characters",
                hint="name it after who uses it, such as 'laptop'",
            )
        with self._file.locked() as content:
            stored = content.keys
            if any(key.name == name for key in stored):
                raise NoSuchKey(
                    f"there is a key named {name!r} already",
                    hint="revoke it or choose another name",
                )
            if len(stored) >= KEYS_MAX:
                raise NoSuchKey(f"there are {KEYS_MAX} keys already", hint="revoke some")
            taken = {key.id for key in stored} | {LOCAL_KEY_ID}
            while not key_id or (key_id in taken and key_id != LOCAL_KEY_ID):
                key_id = secrets.token_hex(_ID_BYTES)
            secret = f"{KEY_PREFIX}{key_id}-{secrets.token_urlsafe(_SECRET_BYTES)}"
            key = _allowed(
                _StoredKey(key_id, name, int(time.time()), _digest(secret)),
                allowance or Allowance(),
            )
            self._file.save(_KeyFile(1, (*stored, key)))
        return NewKey(_public(key), secret)

    def list(self) -> tuple[ApiKey, ...]:
        """Every key, oldest first."""
        return tuple(_public(key) for key in self._file.load().keys)

    def allow(self, id_or_name: str, change: Callable[[Allowance], Allowance]) -> ApiKey:
        """Change what a key may use; it counts from its next request on.

        Raises:
            NoSuchKey: No key has this id or name.
        """
        with self._file.locked() as content:
            old = _find(content.keys, id_or_name)
            new = _allowed(old, change(_public(old).allowance))
            keys = tuple(new if key is old else key for key in content.keys)
            self._file.save(_KeyFile(1, keys))
        return _public(new)

    def revoke(self, id_or_name: str) -> ApiKey:
        """Remove a key; requests that already run go on.

        Raises:
            NoSuchKey: No key has this id or name.
        """
        with self._file.locked() as content:
            stored = content.keys
            gone = _find(stored, id_or_name)
            self._file.save(_KeyFile(1, tuple(key for key in stored if key is not gone)))
        return _public(gone)

    def verify(self, presented: str) -> ApiKey | None:
        """The key that `presented` is, or None.

        Every stored hash is compared, in constant time each, so that the time
        tells nothing about which keys exist.
        """
        if len(presented) > KEY_CHARS_MAX:
            return None
        digest = _digest(presented)
        found: _StoredKey | None = None
        for key in self._file.load().keys:
            if hmac.compare_digest(key.sha256, digest):
                found = key
        return _public(found) if found else None


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _find(keys: Sequence[_StoredKey], id_or_name: str) -> _StoredKey:
    found = next((key for key in keys if id_or_name in (key.id, key.name)), None)
    if found is None:
        raise NoSuchKey(f"there is no key {id_or_name!r}", hint="'atoll keys list' shows them")
    return found


def _allowed(key: _StoredKey, allowance: Allowance) -> _StoredKey:
    return msgspec.structs.replace(
        key,
        streams=allowance.streams,
        tokens_per_minute=allowance.tokens_per_minute,
        priority=allowance.priority,
    )


def _public(key: _StoredKey) -> ApiKey:
    return ApiKey(key.id, key.name, key.created, key.streams, key.tokens_per_minute, key.priority)
