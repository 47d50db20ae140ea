"""Models in several files on their way into the store.

The parts of a model get a folder of their own, named by the model's hash. It
takes that name only when all of them are in it, whole and on the disk.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from atoll.domain.errors import BadModel, PullFailed
from atoll.domain.ids import ModelId
from atoll.model.files import sync_folder
from atoll.model.gguf import open_gguf
from atoll.model.gguf_types import GgufFile
from atoll.model.parts import COUNT, model_paths
from atoll.store.disk import check_room
from atoll.store.http import Progress, download
from atoll.store.layout import PARTS_STEM, Store, model_sha256
from atoll.store.web import Address, Limits


def hashed(path: Path, model: GgufFile, progress: Progress) -> str:
    """`model_sha256`, telling how far it got."""
    return model_sha256(path, model, lambda done: progress(done, model.file_bytes))


def stored_names(count: int) -> list[str]:
    """What `count` parts are called in their folder; the engine finds the others by the first."""
    return [f"{PARTS_STEM}-{i:05d}-of-{count:05d}.gguf" for i in range(1, count + 1)]


def part_urls(url: str, names: Sequence[str]) -> list[str]:
    """Addresses of all parts, from that of the first.

    Args:
        url: It ends in the first name, perhaps with a query after it.
        names: File names of all parts, as `part_names` gives them.

    Raises:
        PullFailed: The end of the name is written in another way than plainly.
    """
    parts = urlsplit(url)
    ends = [name[-len("-00001-of-00001.gguf") :] for name in names]
    if not parts.path.endswith(ends[0]):
        raise PullFailed(
            f"the address of the first part does not end in {ends[0]}",
            hint="write that end of the address without %-codes",
        )
    stem = parts.path.removesuffix(ends[0])
    return [urlunsplit(parts._replace(path=stem + end)) for end in ends]


def download_parts(
    parts: Sequence[Address], folder: Path, *, limits: Limits, progress: Progress
) -> Path:
    """Bring every part to `folder`, going on where an earlier pull ended.

    Args:
        parts: Where they are, in order.
        folder: Made if need be; the caller holds a lock for it.
        limits: Bounds for all parts together.
        progress: Told how many bytes of all parts are here.

    Returns:
        The first part's file.

    Raises:
        PullFailed: A part could not be brought here; what came stays.
        BadModel: The first part is no part of so many; nothing stays.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    files = [folder / name for name in stored_names(len(parts))]
    done = 0
    for part, file in zip(parts, files, strict=True):
        base = done

        def tell(here: int, _total: int | None, base: int = base) -> None:
            progress(base + here, None)

        left = replace(limits, bytes_max=max(limits.bytes_max - done, 0))
        download(part, file, limits=left, progress=tell)
        done += file.stat().st_size
        if file is files[0]:
            _check_first(file, len(parts), folder)
    return files[0]


def _check_first(file: Path, count: int, folder: Path) -> None:
    """See before the other parts come whether there should be any."""
    try:
        claimed = open_gguf(file, is_part=True).integer(COUNT, 1)
        if claimed != count:
            raise BadModel(
                f"by its address the model is in {count} files, by its first file in {claimed}",
                hint="check the address",
            )
    except BadModel:
        shutil.rmtree(folder)
        raise


def take_parts(store: Store, path: Path, model: GgufFile, digest: str, progress: Progress) -> bool:
    """Copy a model in several files into the store; False if it was there already.

    Args:
        store: Where to.
        path: The first part.
        model: What `open_model` found there.
        digest: What the parts hash to.
        progress: Told how much was copied.

    Raises:
        PullFailed: No room, or the parts changed meanwhile.
    """
    with tempfile.TemporaryDirectory(dir=store.downloads_dir) as name:
        sources = model_paths(path, model)
        files = [Path(name) / stored for stored in stored_names(len(sources))]
        # Copies: whoever writes over the sources later must not change what is kept.
        _copy(sources, files, model.file_bytes, progress)
        if model_sha256(files[0], model) != digest:
            raise PullFailed(
                f"the parts of {path} changed while they were copied", hint="pull again"
            )
        return move_parts_in(store, files, digest)


def _copy(
    sources: Sequence[Path], files: Sequence[Path], size_bytes: int, progress: Progress
) -> None:
    check_room(files[0].parent, size_bytes)
    done = 0
    for source, file in zip(sources, files, strict=True):
        with source.open("rb") as reading, file.open("wb") as out:
            while chunk := reading.read(1 << 20):
                out.write(chunk)
                done += len(chunk)
                progress(done, size_bytes)


def move_parts_in(store: Store, files: Sequence[Path], digest: str) -> bool:
    """Give finished files of the store's disk their place; False if it was taken already."""
    target = store.parts_dir(ModelId(digest))
    with tempfile.TemporaryDirectory(dir=store.downloads_dir) as outer:
        folder = Path(outer) / target.name
        folder.mkdir(mode=0o700)
        for file, name in zip(files, stored_names(len(files)), strict=True):
            with file.open("rb") as reading:
                os.fsync(reading.fileno())
            file.rename(folder / name)
        sync_folder(folder)
        try:
            folder.rename(target)
        except OSError:
            if not target.is_dir():
                raise
            return False
    sync_folder(store.models_dir)
    return True
