"""API keys: made here, shown once, kept only as SHA-256.

A key is `atoll-<id>-<secret>`: the id (8 hex digits) is public and names the
key in lists and logs, the secret carries 256 bits of chance. A plain hash is
enough for such a secret: there is nothing to guess, so nothing to slow down.

The file is JSON, mode 0600, replaced atomically under a lock of its own, and
read again when it changed, so that a new or revoked key needs no restart.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from atoll.domain.errors import AtollError
from atoll.net.private_file import PrivateFileFault, read_private, write_private

KEY_PREFIX = "atoll-"
KEY_CHARS_MAX = 256
KEYS_MAX = 10_000
NAME_CHARS_MAX = 64
FILE_BYTES_MAX = 4 * 1024 * 1024
_ID_BYTES = 4
_SECRET_BYTES = 32


class KeyFileFault(AtollError):
    """The key file is damaged, open to others, or cannot be written."""

    exit_code = 2


class NoSuchKey(AtollError):
    """A key was named that does not exist, or a name that is taken."""

    exit_code = 2


class ApiKey(msgspec.Struct, frozen=True):
    """A key without its secret. `created` is in seconds since 1970."""

    id: str
    name: str
    created: int


class NewKey(msgspec.Struct, frozen=True):
    """A key just made; `secret` is the whole key and is never seen again."""

    key: ApiKey
    secret: str


class _StoredKey(msgspec.Struct, frozen=True):
    id: str
    name: str
    created: int
    sha256: str


class _KeyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    keys: tuple[_StoredKey, ...]


class KeyStore:
    """The keys in one file. Several processes may use the same file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._keys: tuple[_StoredKey, ...] = ()

    def create(self, name: str) -> NewKey:
        """Make a key and store its hash.

        Raises:
            NoSuchKey: The name is taken or unusable.
            KeyFileFault: The file cannot be read or written.
        """
        if not name.strip() or len(name) > NAME_CHARS_MAX or not name.isprintable():
            raise NoSuchKey(
                f"a key's name has 1 to {NAME_CHARS_MAX} printable characters",
                hint="name it after who uses it, such as 'laptop'",
            )
        with self._locked():
            stored = self._load()
            if any(key.name == name for key in stored):
                raise NoSuchKey(
                    f"there is a key named {name!r} already",
                    hint="revoke it or choose another name",
                )
            if len(stored) >= KEYS_MAX:
                raise NoSuchKey(f"there are {KEYS_MAX} keys already", hint="revoke some")
            taken = {key.id for key in stored}
            key_id = secrets.token_hex(_ID_BYTES)
            while key_id in taken:
                key_id = secrets.token_hex(_ID_BYTES)
            secret = f"{KEY_PREFIX}{key_id}-{secrets.token_urlsafe(_SECRET_BYTES)}"
            key = _StoredKey(key_id, name, int(time.time()), _digest(secret))
            self._save((*stored, key))
        return NewKey(_public(key), secret)

    def list(self) -> tuple[ApiKey, ...]:
        """Every key, oldest first."""
        return tuple(_public(key) for key in self._load())

    def revoke(self, id_or_name: str) -> ApiKey:
        """Remove a key; requests that already run go on.

        Raises:
            NoSuchKey: No key has this id or name.
        """
        with self._locked():
            stored = self._load()
            gone = next((key for key in stored if id_or_name in (key.id, key.name)), None)
            if gone is None:
                raise NoSuchKey(
                    f"there is no key {id_or_name!r}", hint="'atoll keys list' shows them"
                )
            self._save(tuple(key for key in stored if key is not gone))
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
        for key in self._load():
            if hmac.compare_digest(key.sha256, digest):
                found = key
        return _public(found) if found else None

    def _load(self) -> tuple[_StoredKey, ...]:
        """The stored keys; the file is read only if it changed."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            self._seen, self._keys = None, ()
            return ()
        seen = (status.st_ino, status.st_mtime_ns, status.st_size)
        if seen == self._seen:
            return self._keys
        try:
            content = read_private(self._path, bytes_max=FILE_BYTES_MAX)
            file = msgspec.json.decode(content, type=_KeyFile)
        except PrivateFileFault as error:
            raise KeyFileFault(error.problem, hint=error.hint) from error
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise KeyFileFault(
                f"the key file {self._path} cannot be read: {error}",
                hint="restore it from a backup, or remove it and create new keys",
            ) from error
        if file.version != 1:
            raise KeyFileFault(
                f"the key file {self._path} has version {file.version}",
                hint="use the release of atoll that wrote it",
            )
        self._keys, self._seen = file.keys, seen
        return self._keys

    def _save(self, keys: tuple[_StoredKey, ...]) -> None:
        """Replace the file in one step; a crash leaves the old or the new one."""
        content = msgspec.json.format(msgspec.json.encode(_KeyFile(1, keys)))
        try:
            write_private(self._path, content, replace=True)
        except PrivateFileFault as error:
            raise KeyFileFault(error.problem, hint=error.hint) from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock file next to the key file, which itself gets replaced."""
        lock = self._path.with_name(self._path.name + ".lock")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise KeyFileFault(
                f"the lock {lock} cannot be opened: {error}", hint="check the folder's owner"
            ) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _public(key: _StoredKey) -> ApiKey:
    return ApiKey(key.id, key.name, key.created)
