"""`atoll cache`: what lies on this machine's disk, and making room."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

import msgspec
from rich.table import Table

from atoll.cli.screen import data_console, megabytes, printable, say, show_json
from atoll.cli.settings import StoreFlags, flags
from atoll.store.cache import CacheEntry, Pruned, entries, prune, size_bytes_of


@flags
class CacheFlags(StoreFlags):
    """Options of `atoll cache`."""

    max: str = "0"
    """With `prune`: what shards and partial downloads may take then, such as 20GB."""

    json: bool = False
    """Print the result as JSON."""


class CacheReply(msgspec.Struct, frozen=True):
    """What is there, for `--json`; bytes."""

    entries: list[CacheEntry]
    models_bytes: int
    prunable_bytes: int


def cache(
    action: Literal["list", "prune"] = "list", /, *, options: CacheFlags | None = None
) -> None:
    """List what lies on this machine's disk, or make room.

    `prune` removes shards, heads of models and partial downloads, the least recently used first,
    until the rest takes no more than `--max`; without it, all of them. They are cut or fetched
    again when they are needed. What a running process uses stays, and so do whole models.

    Example: `atoll cache`

    Example: `atoll cache prune --max 20GB`

    Args:
        action: `list` or `prune`.
    """
    options = options or CacheFlags()
    store = options.open_store()
    if action == "prune":
        _show_pruned(prune(store, size_bytes_of(options.max)), as_json=options.json)
        return
    found = entries(store)
    models = sum(entry.size_bytes for entry in found if entry.kind == "model")
    rest = sum(entry.size_bytes for entry in found) - models
    if options.json:
        show_json(CacheReply(found, models, rest))
        return
    say(f"{store.home}: models {megabytes(models)} MiB, what can be had again {megabytes(rest)}")
    table = Table("kind", "name")
    table.add_column("MiB", justify="right")
    table.add_column("last used (UTC)")
    table.add_column("in use")
    for entry in found:
        used = datetime.fromtimestamp(entry.last_used, UTC)
        in_use = {True: "yes", False: "no", None: ""}[entry.in_use]
        table.add_row(
            *(entry.kind, printable(entry.name), megabytes(entry.size_bytes)),
            *(f"{used:%Y-%m-%d %H:%M}", in_use),
        )
    data_console().print(table)


def _show_pruned(pruned: Pruned, *, as_json: bool) -> None:
    if as_json:
        show_json(pruned)
        return
    for entry in pruned.removed:
        print(f"removed {printable(entry.name)}  {megabytes(entry.size_bytes)} MiB")
    freed = sum(entry.size_bytes for entry in pruned.removed)
    say(f"{megabytes(freed)} MiB freed, {megabytes(pruned.left_bytes)} MiB left")
    if pruned.in_use_bytes:
        say(f"{megabytes(pruned.in_use_bytes)} MiB stay because running processes use them")
