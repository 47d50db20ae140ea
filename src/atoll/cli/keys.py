"""`atoll keys`: who may ask the gateway."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
from rich.table import Table

from atoll.api.keys import KEYS_FILE, KeyStore
from atoll.cli.screen import data_console, say, show_json
from atoll.cli.settings import HomeFlags, flags


@flags
class KeysFlags(HomeFlags):
    """Options of `atoll keys`."""

    json: bool = False
    """Print the result as JSON."""

    def key_store(self) -> KeyStore:
        """The keys of the gateway's home."""
        return KeyStore(self.home_dir() / KEYS_FILE)


class NewKeyReply(msgspec.Struct, frozen=True):
    """A new key, for `--json`."""

    id: str
    name: str
    created: int
    key: str


def create_keys(name: str, /, *, options: KeysFlags | None = None) -> None:
    """Make a key and print it, this once.

    Example: `atoll keys create laptop`

    Args:
        name: Who uses it.
    """
    options = options or KeysFlags()
    made = options.key_store().create(name)
    if options.json:
        show_json(NewKeyReply(made.key.id, made.key.name, made.key.created, made.secret))
        return
    say("Keep this key now; it is not shown again.")
    print(made.secret)


def list_keys(*, options: KeysFlags | None = None) -> None:
    """List the keys, without their secrets.

    Example: `atoll keys list`
    """
    options = options or KeysFlags()
    found = options.key_store().list()
    if options.json:
        show_json(found)
        return
    if not found:
        say("There are no keys yet; make one with 'atoll keys create NAME'.")
        return
    table = Table("id", "name", "created (UTC)")
    for key in found:
        created = datetime.fromtimestamp(key.created, UTC)
        table.add_row(key.id, key.name, f"{created:%Y-%m-%d %H:%M}")
    data_console().print(table)


def revoke_keys(key: str, /, *, options: KeysFlags | None = None) -> None:
    """Take a key away; answers that are being given go on.

    Example: `atoll keys revoke laptop`

    Args:
        key: The key's id or name, as `atoll keys list` shows them.
    """
    options = options or KeysFlags()
    gone = options.key_store().revoke(key)
    if options.json:
        show_json(gone)
        return
    print(f"revoked {gone.id} {gone.name}")
