"""`atoll keys`: who may ask the gateway."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import msgspec
from cyclopts import Parameter
from cyclopts.validators import Number
from rich.table import Table

from atoll.api.allowance import Allowance, PriorityName
from atoll.api.keys import KEYS_FILE, ApiKey, KeyStore
from atoll.cli.screen import data_console, say, show_json
from atoll.cli.settings import HomeFlags, flags

Count = Annotated[int, Parameter(validator=Number(gte=0, lte=2**31 - 1))]


@flags
class KeysFlags(HomeFlags):
    """Options of `atoll keys`."""

    json: bool = False
    """Print the result as JSON."""

    def key_store(self) -> KeyStore:
        """The keys of the gateway's home."""
        return KeyStore(self.home_dir() / KEYS_FILE)


@flags
class AllowanceFlags(KeysFlags):
    """Options of `atoll keys create` and `atoll keys set`."""

    streams: Count | None = None
    """Most answers at once, those that wait included. 0: as many as the gateway allows any key."""

    tokens_per_minute: Count | None = None
    """Most tokens of prompts and answers a minute. 0: no limit."""

    priority: PriorityName | None = None
    """Where requests wait, higher ones go first; low ones wait longer, but not for ever."""

    def apply(self, allowance: Allowance) -> Allowance:
        """The allowance with what was given."""
        return allowance.changed(self.streams, self.tokens_per_minute, self.priority)


class NewKeyReply(msgspec.Struct, frozen=True):
    """A new key, for `--json`."""

    id: str
    name: str
    created: int
    streams: int
    tokens_per_minute: int
    priority: str
    key: str


def create_keys(name: str, /, *, options: AllowanceFlags | None = None) -> None:
    """Make a key and print it, this once.

    Example: `atoll keys create laptop --streams 4 --priority high`

    Args:
        name: Who uses it.
    """
    options = options or AllowanceFlags()
    made = options.key_store().create(name, options.apply(Allowance()))
    if options.json:
        show_json(NewKeyReply(**msgspec.structs.asdict(made.key), key=made.secret))
        return
    say("Keep this key now; it is not shown again.")
    print(made.secret)


def set_keys(key: str, /, *, options: AllowanceFlags | None = None) -> None:
    """Change what a key may use; what is not given stays as it is.

    Example: `atoll keys set laptop --tokens-per-minute 20000`

    Args:
        key: The key's id or name, as `atoll keys list` shows them.
    """
    options = options or AllowanceFlags()
    changed = options.key_store().allow(key, options.apply)
    if options.json:
        show_json(changed)
        return
    print(f"changed {changed.id} {changed.name}: {_told(changed)}")


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
    table = Table("id", "name", "created (UTC)", "streams", "tokens/min", "priority")
    for key in found:
        created = datetime.fromtimestamp(key.created, UTC)
        allowed = (str(key.streams or "-"), str(key.tokens_per_minute or "-"), key.priority)
        table.add_row(key.id, key.name, f"{created:%Y-%m-%d %H:%M}", *allowed)
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


def _told(key: ApiKey) -> str:
    streams = f"{key.streams} answers at once" if key.streams else "answers as any key"
    tokens = f"{key.tokens_per_minute} tokens a minute" if key.tokens_per_minute else "any tokens"
    return f"{streams}, {tokens}, priority {key.priority}"
