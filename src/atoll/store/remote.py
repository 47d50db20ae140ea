"""Shards cut out of a model at an address: its head and the shard's layers are fetched, no more.

    HOME/shards/<sha256>/head.bin            the model's first bytes, for the next shard
    HOME/shards/<sha256>/head.json           of which file at which address they are
    HOME/shards/<sha256>/<first>-<last>.part the beginning of a shard that is being fetched
    HOME/shards/<sha256>/<first>-<last>.part.json  likewise

The shard is the very file that `shards` cuts from a local copy, since the cut
is the same function of the same bytes. Nobody vouches for single bytes of an
address; the hash of the whole shard, which the plan knows, does.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from urllib.parse import urldefrag

import msgspec

from atoll.domain.errors import BadModel, PullFailed
from atoll.domain.ids import ModelId, ShardId
from atoll.model.architectures import layer_count
from atoll.model.files import atomic_file
from atoll.model.gguf import READ_BYTES_MIN, read_head
from atoll.model.gguf_types import GgufFile
from atoll.model.outline import read_outline
from atoll.model.shard import ShardPlan, plan_shard, source_ranges, stream_shard
from atoll.store import hub
from atoll.store.disk import check_room, move_in
from atoll.store.http import Progress
from atoll.store.layout import FoundModel, Store, UnknownModel, checked_sha256, locked
from atoll.store.pull import pull
from atoll.store.ranges import ContentChanged, FileIdentity, ReadAhead, WebFile
from atoll.store.shards import (
    FetchedShard,
    ShardFile,
    ensure_shard,
    kept_shard,
    note_shard,
    shard_path,
)
from atoll.store.sources import HUB
from atoll.store.web import Address, Limits

log = logging.getLogger(__name__)

GAP_BYTES_MAX = 64 * 1024
"""Unwanted bytes that are fetched rather than asked around: about a round trip's worth."""


class _Origin(msgspec.Struct, frozen=True):
    """Of which file bytes on the disk are a part."""

    url: str
    identity: FileIdentity


def fetch_shard(
    store: Store,
    where: str,
    model: ModelId,
    first: int,
    last: int,
    *,
    expected: ShardId,
    data_offset: int = 0,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> FetchedShard:
    """The shard of layers [first, last) of the model at an address, fetched now if it is not here.

    A fetch that broke off goes on where it ended.

    Args:
        store: Where it is kept.
        where: An `https://` address, or `hf:ORG/REPO/FILE.gguf[@REVISION]`.
        model: The model's SHA-256.
        first: First layer.
        last: Layer after the last one.
        expected: The hash that the shard must have.
        data_offset: Where the weights begin in the model's file, if that is known;
            then the vocabulary is not read where the shard has none.
        limits: How to wait where the server is slow.
        progress: Told how many bytes of the shard are here.

    Raises:
        UnknownModel: There is another model at the address.
        PullFailed: It cannot be fetched; what came is kept for the next attempt.
        CannotCut: The model cannot be cut there.
        BadModel: The shard is another than expected; nothing was kept.
    """
    path = shard_path(store, model, first, last)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with locked(path.with_suffix(".lock")):
        kept = kept_shard(path, check_content=True)
        if kept is not None and kept.shard == expected:
            return FetchedShard(kept, 0)
        address = _locate(where, model, limits or Limits())
        tell = progress or (lambda _done, _all: None)
        fetch = _Fetch(path, address, expected, limits or Limits(), tell)
        found = fetch.run(first, last, data_offset)
    if found is None:
        return _whole(store, where, model, last, limits)
    log.info(
        "shard.fetched layers=%d-%d size=%d fetched=%d ratio=%.4f",
        *(first, last, found.file.size_bytes, found.fetched_bytes, found.ratio),
    )
    return found


def _locate(where: str, model: ModelId, limits: Limits) -> Address:
    """The address, once it is sure that it does not claim to have another model."""
    if where.startswith(HUB):
        found = hub.look_up(hub.parse_name(where), limits=limits)
        address, sha256 = found.address, found.sha256
    else:
        url, fragment = urldefrag(where)
        address = Address(url)
        sha256 = checked_sha256(fragment.removeprefix("sha256=")) if fragment else ""
    if sha256 and sha256 != model:
        raise UnknownModel(
            f"{where} is the model {sha256[:12]}, not {model[:12]}",
            hint="name the same model file as the gateway serves",
        )
    return address


def _whole(
    store: Store, where: str, model: ModelId, last: int, limits: Limits | None
) -> FetchedShard:
    """All layers: the shard is the model."""
    pulled = pull(urldefrag(where).url, store=store, sha256=model, limits=limits)
    here = FoundModel(pulled.model, pulled.path, pulled.name)
    shard = ensure_shard(store, here, 0, last, expected=ShardId(model))
    return FetchedShard(shard, pulled.size_bytes if pulled.fresh else 0)


class _Fetch:
    """One shard that is fetched; its caller holds the shard's lock."""

    def __init__(
        self, path: Path, address: Address, expected: ShardId, limits: Limits, tell: Progress
    ) -> None:
        self._path = path
        self._part = path.with_suffix(".part")
        self._origin_path = path.with_suffix(".part.json")
        self._head_path = path.parent / "head.bin"
        self._address = address
        self._expected = expected
        self._data_offset = 0
        self._limits = limits
        self._tell = tell

    def run(self, first: int, last: int, data_offset: int) -> FetchedShard | None:
        """The shard, or None if it is the whole model.

        What an earlier run left is used, and if that leads nowhere, dropped.
        """
        fetched_bytes = 0

        def attempt(identity: FileIdentity | None) -> FetchedShard | None:
            nonlocal fetched_bytes
            with WebFile(self._address, self._limits, identity) as file:
                try:
                    shard = self._attempt(file, first, last)
                finally:
                    fetched_bytes += file.fetched_bytes
            return None if shard is None else FetchedShard(shard, fetched_bytes)

        known, self._data_offset = self._known_head(), data_offset
        trusting = known is not None or self._part.exists() or self._data_offset
        try:
            return attempt(known)
        except (ContentChanged, BadModel):
            self._forget()
            if not trusting:
                raise
            self._data_offset = 0
        try:
            return attempt(None)
        except (ContentChanged, BadModel):
            self._forget()
            raise

    def _attempt(self, file: WebFile, first: int, last: int) -> ShardFile | None:
        plan = plan_shard(self._read_head(file, last), first, last)
        if plan.whole:
            return None
        try:
            digest = self._bring(file, plan)
        except OSError as error:
            raise PullFailed(
                f"cannot write {self._part}: {error.strerror or error}",
                hint="free some space and try again; it goes on where it ended",
            ) from error
        if digest != self._expected:
            raise BadModel(
                f"layers {first} to {last} of {self._address} hash to {digest[:12]}, "
                f"but the plan says {self._expected[:12]}",
                hint="name the same model file as the gateway serves, and use the same "
                "version of Atoll everywhere",
            )
        move_in(self._part, self._path)
        self._origin_path.unlink(missing_ok=True)
        return note_shard(self._path, ShardId(digest), plan.size_bytes)

    def _read_head(self, file: WebFile, last: int) -> GgufFile:
        """The head; without the vocabulary if none is needed and there is a way around it."""
        if self._data_offset and not self._head_path.exists():
            try:
                outline = read_outline(file, self._data_offset)
                if last < layer_count(outline):
                    return outline
            except BadModel as error:
                log.info("shard.head_read_whole reason=%s", error.problem)
        with locked(self._head_path.with_suffix(".lock")):
            source = _Head(file, self._head_path)
            head = read_head(source)
            source.keep()
        return head

    def _bring(self, file: WebFile, plan: ShardPlan) -> str:
        """Write the rest of the part; returns the SHA-256 of the whole."""
        digest, done = hashlib.sha256(), 0
        origin = _Origin(self._address.url, file.identity)
        if _read_origin(self._origin_path) == origin and self._part.exists():
            with self._part.open("rb") as part:
                while chunk := part.read(1 << 20):
                    digest.update(chunk)
                    done += len(chunk)
        else:
            self._part.unlink(missing_ok=True)
            _write_origin(self._origin_path, origin)
        check_room(self._part.parent, plan.size_bytes - done)
        source = ReadAhead(file, source_ranges(plan, GAP_BYTES_MAX))
        self._tell(done, plan.size_bytes)
        with self._part.open("ab") as part:
            for chunk in stream_shard(plan, source, done):
                part.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                self._tell(done, plan.size_bytes)
        return digest.hexdigest()

    def _known_head(self) -> FileIdentity | None:
        """Which file the kept head is of, if it is this address's."""
        origin = _read_origin(self._head_path.with_suffix(".json"))
        if origin is not None and origin.url == self._address.url and self._head_path.exists():
            return origin.identity
        self._forget_head()
        return None

    def _forget_head(self) -> None:
        self._head_path.unlink(missing_ok=True)
        self._head_path.with_suffix(".json").unlink(missing_ok=True)

    def _forget(self) -> None:
        self._forget_head()
        self._part.unlink(missing_ok=True)
        self._origin_path.unlink(missing_ok=True)


class _Head:
    """A source for the head of a file, read in order: what was read before comes from the disk."""

    def __init__(self, file: WebFile, path: Path) -> None:
        self._file = file
        self._path = path
        self._have = path.read_bytes() if path.exists() else b""
        self._kept_bytes = len(self._have)
        if not self._have:
            self._have = file.read(0, READ_BYTES_MIN)

    @property
    def size_bytes(self) -> int:
        return self._file.size_bytes

    def read(self, offset: int, size: int) -> bytes:
        missing = min(offset + size, self.size_bytes) - len(self._have)
        if missing > 0:
            self._have += self._file.read(len(self._have), missing)
        return self._have[offset : offset + size]

    def keep(self) -> None:
        """Have it on the disk for the next shard."""
        if len(self._have) == self._kept_bytes:
            return
        with atomic_file(self._path, mode=0o600) as out:
            out.write(self._have)
        origin = _Origin(self._file.address.url, self._file.identity)
        _write_origin(self._path.with_suffix(".json"), origin)


def _read_origin(path: Path) -> _Origin | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Origin)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def _write_origin(path: Path, origin: _Origin) -> None:
    with atomic_file(path, mode=0o600) as file:
        file.write(msgspec.json.encode(origin))
