"""What the store holds, and how to make room: what can be had again goes first.

Shards, heads of models and partial downloads can be made or fetched again.
They are pruned, the least recently used first, but never one that a running
process uses, cuts or fetches. Whole models are listed and never removed: they
are what their owner pulled.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

from atoll.domain.errors import BadRequest
from atoll.domain.ids import ModelId
from atoll.store.layout import Store
from atoll.store.shards import shard_path
from atoll.store.uses import claimed, use_path

Kind = Literal["model", "shard", "head", "partial"]

UNITS = {
    "": 1,
    "k": 1000,
    "m": 1000**2,
    "g": 1000**3,
    "t": 1000**4,
    "ki": 1024,
    "mi": 1024**2,
    "gi": 1024**3,
    "ti": 1024**4,
}
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?) ?([kmgt]i?)?b?", re.IGNORECASE)


class CacheEntry(msgspec.Struct, frozen=True):
    """One thing in the store.

    `size_bytes` is what its files take, `last_used` a time in seconds since
    1970, `in_use` whether a running process uses, makes or fetches it; nobody
    knows that of whole models.
    """

    kind: Kind
    name: str
    model: str
    size_bytes: int
    last_used: int
    in_use: bool | None
    files: tuple[str, ...]
    locks: tuple[str, ...] = ()


class Pruned(msgspec.Struct, frozen=True):
    """What went, and what is left of that which may go, bytes."""

    removed: tuple[CacheEntry, ...]
    left_bytes: int
    in_use_bytes: int


def size_bytes_of(text: str) -> int:
    """A size as people write it: `20GB`, `1.5 GiB`, `500M`, `0`.

    Raises:
        BadRequest: It is none.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise BadRequest(f"{text!r} is not a size", hint="write it like 20GB, 1.5GiB or 500MB")
    return int(float(match[1]) * UNITS[(match[2] or "").lower()])


def entries(store: Store) -> list[CacheEntry]:
    """What the store holds: models, then the rest, the least recently used first."""
    names = {m.model: (m.names[0] if m.names else m.model[:12]) for m in store.models()}
    models = [
        CacheEntry(
            kind="model",
            name=names[model.model],
            model=model.model,
            size_bytes=model.size_bytes,
            last_used=_last_read(store.model_path(model.model)),
            in_use=None,
            files=(str(store.model_path(model.model)),),
        )
        for model in store.models()
    ]
    rest = [*_downloads(store), *_shards(store, {str(k): v for k, v in names.items()})]
    return models + sorted(rest, key=lambda entry: (entry.last_used, entry.name))


def prune(store: Store, max_bytes: int) -> Pruned:
    """Remove what was not used for longest until the rest takes `max_bytes` at most.

    What is in use stays, even if it is more than that.
    """
    found = [entry for entry in entries(store) if entry.kind != "model"]
    left_bytes = sum(entry.size_bytes for entry in found)
    removed, in_use_bytes = [], 0
    for entry in found:
        if left_bytes <= max_bytes:
            break
        with claimed([Path(lock) for lock in entry.locks]) as is_ours:
            if not is_ours:
                in_use_bytes += entry.size_bytes
                continue
            for file in entry.files:
                Path(file).unlink(missing_ok=True)
        removed.append(entry)
        left_bytes -= entry.size_bytes
    return Pruned(tuple(removed), left_bytes, in_use_bytes)


def drop_shard(store: Store, model: ModelId, first: int, last: int) -> bool:
    """Remove the shard of layers [first, last) unless somebody uses it; whether it is gone."""
    path = shard_path(store, model, first, last)
    if not path.parent.is_dir():
        return True
    with claimed([path.with_suffix(".lock"), use_path(path)]) as is_ours:
        if is_ours:
            for file in (path, path.with_suffix(".json")):
                file.unlink(missing_ok=True)
        return is_ours


def _downloads(store: Store) -> Iterator[CacheEntry]:
    """Pulls that are not finished: `<key>.part` and what belongs to it."""
    for stem, files in _by_stem(store.downloads_dir):
        yield _entry("partial", f"download {stem[:12]}", "", files, (_sibling(files, ".lock"),))


def _shards(store: Store, names: dict[str, str]) -> Iterator[CacheEntry]:
    for folder in sorted(p for p in store.shards_dir.iterdir() if p.is_dir()):
        name = names.get(folder.name, folder.name[:12])
        for stem, files in _by_stem(folder):
            done = folder / f"{stem}.gguf"
            locks = (_sibling(files, ".lock"), folder / f"{stem}.use")
            first, _, last = stem.partition("-")
            if stem == "head":
                yield _entry("head", f"{name} head", folder.name, files, locks[:1])
            elif first.isdecimal() and last.isdecimal():
                kind: Kind = "shard" if done in files else "partial"
                layers = f"{name} layers {first}-{int(last) - 1}"
                yield _entry(kind, layers, folder.name, files, locks)


def _by_stem(folder: Path) -> list[tuple[str, list[Path]]]:
    """A folder's files but its locks, by the name in front of their endings.

    A file that is being written has a dot in front, and its own ending.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix not in (".lock", ".use"):
            found.setdefault(path.name.lstrip(".").partition(".")[0], []).append(path)
    return sorted(found.items())


def _sibling(files: Sequence[Path], suffix: str) -> Path:
    stem = files[0].name.lstrip(".").partition(".")[0]
    return files[0].parent / f"{stem}{suffix}"


def _entry(
    kind: Kind, name: str, model: str, files: Sequence[Path], locks: Sequence[Path]
) -> CacheEntry:
    size_bytes, last_used = 0, 0.0
    for path in (*files, use_path(locks[0])):
        # Another process may have removed or renamed it since the folder was read.
        with suppress(FileNotFoundError):
            state = path.stat()
            size_bytes += state.st_size
            last_used = max(last_used, state.st_mtime)
    with claimed([path for path in locks if path.exists()]) as is_free:
        in_use = not is_free
    return CacheEntry(
        kind=kind,
        name=name,
        model=model,
        size_bytes=size_bytes,
        last_used=int(last_used),
        in_use=in_use,
        files=tuple(str(path) for path in files),
        locks=tuple(str(path) for path in locks),
    )


def _last_read(path: Path) -> int:
    """When a file was last read, as exactly as its disk notes that."""
    state = path.stat()
    return int(max(state.st_atime, state.st_mtime))
