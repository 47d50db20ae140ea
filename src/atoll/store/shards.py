"""Shards of the store's models: cut when they are wanted, kept, and checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from atoll.domain.errors import BadModel
from atoll.domain.ids import ModelId, ShardId
from atoll.model.files import atomic_file
from atoll.model.gguf_types import GgufFile
from atoll.model.parts import open_model
from atoll.model.shard import plan_shard, write_shard
from atoll.store.disk import check_room
from atoll.store.layout import FoundModel, Store, locked, model_sha256, sha256_of


@dataclass(frozen=True, slots=True)
class ShardFile:
    """A shard on this machine's disk: its file, or the first of a whole model's files."""

    path: Path
    shard: ShardId
    size_bytes: int


@dataclass(frozen=True, slots=True)
class FetchedShard:
    """A shard on this machine's disk, and the bytes that were fetched for it now."""

    file: ShardFile
    fetched_bytes: int

    @property
    def ratio(self) -> float:
        """Bytes fetched ÷ bytes of the shard."""
        return self.fetched_bytes / self.file.size_bytes


class _Note(msgspec.Struct, frozen=True):
    """What a shard's file was when it was cut; beside it as JSON."""

    shard: ShardId
    size_bytes: int
    modified_ns: int


def shard_path(store: Store, model: ModelId, first: int, last: int) -> Path:
    """Where the shard of layers [first, last) lies, if it is here and not the whole model."""
    return store.shards_dir / model / f"{first}-{last}.gguf"


def ensure_shard(
    store: Store,
    model: FoundModel,
    first: int,
    last: int,
    *,
    expected: ShardId | None = None,
    check_content: bool = False,
) -> ShardFile:
    """The shard of layers [first, last) of a model, cut now if it is not here yet.

    Args:
        store: Where it is kept.
        model: The whole model, as `Store.resolve` finds it.
        first: First layer.
        last: Layer after the last one.
        expected: The hash that it must have by the plan. It is compared with the
            hash of the file's content, whatever was noted when it was cut.
        check_content: Read and hash a file that is here already even though
            nothing is expected of it.

    Raises:
        CannotCut: The model cannot be cut there.
        BadModel: The model is damaged, or the shard is another than expected.
    """
    gguf = open_model(model.path)
    plan = plan_shard(gguf, first, last)
    if plan.whole:
        found = _whole(model, gguf, check_content=check_content or expected is not None)
    else:
        path = shard_path(store, model.model, first, last)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        with locked(path.with_suffix(".lock")):
            kept = kept_shard(path, check_content=check_content or expected is not None)
            if kept is None or kept.size_bytes != plan.size_bytes:
                check_room(path.parent, plan.size_bytes)
                digest = write_shard(model.path, first, last, path)
                kept = note_shard(path, digest.shard, digest.size_bytes)
            found = kept
    if expected is not None and found.shard != expected:
        raise BadModel(
            f"layers {first} to {last} of model {model.model[:12]} hash to {found.shard[:12]}, "
            f"but the plan says {expected[:12]}",
            hint="use the same version of Atoll everywhere, or pull the model again",
        )
    return found


def _whole(model: FoundModel, gguf: GgufFile, *, check_content: bool) -> ShardFile:
    digest = model_sha256(model.path, gguf) if check_content else str(model.model)
    if digest != str(model.model):
        raise BadModel(
            f"the file {model.path} is no longer the model {model.model[:12]}",
            hint="remove it and pull the model again",
        )
    return ShardFile(model.path, ShardId(digest), gguf.file_bytes)


def kept_shard(path: Path, *, check_content: bool) -> ShardFile | None:
    """The shard that was put at `path` earlier, unless it is missing or changed since."""
    try:
        note = msgspec.json.decode(_note_path(path).read_bytes(), type=_Note)
        state = path.stat()
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
    if (state.st_size, state.st_mtime_ns) != (note.size_bytes, note.modified_ns):
        return None
    if check_content and sha256_of(path) != note.shard:
        return None
    return ShardFile(path, note.shard, note.size_bytes)


def note_shard(path: Path, shard: ShardId, size_bytes: int) -> ShardFile:
    """Remember what the new file at `path` is."""
    note = _Note(shard, size_bytes, path.stat().st_mtime_ns)
    with atomic_file(_note_path(path)) as file:
        file.write(msgspec.json.encode(note))
    return ShardFile(path, shard, size_bytes)


def _note_path(path: Path) -> Path:
    return path.with_suffix(".json")
