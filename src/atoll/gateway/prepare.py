"""A model made ready to be served: its numbers, its cuts, and the ends' files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from atoll.domain.errors import BadRequest
from atoll.domain.ids import ModelId
from atoll.domain.measure import Measure, ProbeRange
from atoll.engine.draft_messages import DraftOptions
from atoll.engine.ends_messages import EndsOptions
from atoll.gateway.options import RingOptions
from atoll.model.architectures import boundaries
from atoll.model.manifest import Manifest, describe, kv_bytes, make_manifest
from atoll.model.parts import open_model
from atoll.model.probe_ranges import probe_ranges
from atoll.model.shard import hash_shard
from atoll.model.vocabularies import difference
from atoll.plan.equal import equal_cut
from atoll.ring.coordinator_config import GUESS_ROWS
from atoll.store.layout import FoundModel, Store
from atoll.store.shards import ShardFile, ensure_shard, shard_path
from atoll.store.uses import Hold, hold

MEMORY_SPARE = 1.2
"""What a node must have free for a stage: weights and KV cache, and a fifth more."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model made ready: its numbers, and the ends' files, in use until `holds` are released.

    `order` is what nodes are to measure; None: nothing.
    """

    manifest: Manifest
    boundaries: tuple[int, ...]
    head: ShardFile
    tail: ShardFile
    holds: tuple[Hold, ...]
    order: Measure | None = None

    def release(self) -> None:
        """The ends' files are no longer in use."""
        for held in self.holds:
            held.release()


def memory_needed(manifest: Manifest, ring: RingOptions) -> int:
    """Bytes that a node must have free: for the largest stage, or a layer where it is planned."""
    cells = ring.streams * ring.context
    if ring.plan == "auto":
        inner = range(ring.ends, manifest.n_layers - ring.ends)
        needed = max(manifest.layer_bytes[i] + manifest.layer_kv_bytes[i] * cells for i in inner)
        return int(MEMORY_SPARE * needed)
    largest = max(
        entry.size_bytes + kv_bytes(manifest, entry.first, entry.last, cells)
        for entry in manifest.shards
    )
    return int(MEMORY_SPARE * largest)


def check_context(ring: RingOptions, manifest: Manifest) -> None:
    """Refuse a context that the model was not made for.

    Raises:
        BadRequest: It is longer than the model's own.
    """
    if not 1 <= ring.context <= manifest.context_train:
        raise BadRequest(
            f"a context of {ring.context} tokens was asked for, the model's is "
            f"{manifest.context_train}",
            hint="choose a smaller --context",
        )


def prepare(model: FoundModel, store: Store, ring: RingOptions) -> Prepared:
    """Cut the ends and hash every stage's shard; reads the model once."""
    if ring.draft:
        check_draft(Path(ring.draft), model)
    gguf = open_model(model.path)
    described = describe(gguf, model.model)
    check_context(ring, described)
    n_layers = described.n_layers
    cuts = boundaries(gguf)
    ranges = equal_cut(n_layers, ring.ends, ring.nodes, cuts)
    manifest = make_manifest(model.path, model.model, ranges if ring.plan == "equal" else ())
    ends = ((0, ring.ends), (n_layers - ring.ends, n_layers))
    holds = tuple(hold(shard_path(store, model.model, *layers)) for layers in ends)
    head, tail = (ensure_shard(store, model, *layers) for layers in ends)
    order = measure_order(model, described, cuts, ring) if ring.plan == "auto" else None
    return Prepared(manifest, cuts, head, tail, holds, order)


def measure_order(
    model: FoundModel, manifest: Manifest, cuts: Sequence[int], ring: RingOptions
) -> Measure:
    """What nodes are asked to time; hashes the shards, which are few layers.

    Args:
        model: The whole model.
        manifest: It in numbers.
        cuts: Where it may be cut, with 0 and the number of layers.
        ring: The ring's shape.
    """

    def hashed(layers: tuple[int, int]) -> ProbeRange:
        return ProbeRange(*layers, hash_shard(model.path, *layers).shard)

    short, long = probe_ranges(manifest, cuts)
    return Measure(
        model=manifest.model,
        n_layers=manifest.n_layers,
        data_offset=manifest.data_offset,
        rows_max=ring.rows_max,
        short=hashed(short),
        long=hashed(long) if long is not None else None,
    )


def check_draft(draft: Path, model: FoundModel) -> None:
    """Refuse a draft model whose tokens are not the model's.

    Raises:
        BadRequest: Its vocabulary is another one.
        BadModel: It is no sound model.
    """
    if problem := difference(open_model(draft), open_model(model.path)):
        raise BadRequest(
            f"{draft.name} cannot draft for {model.name}: {problem}",
            hint="choose a smaller model of the same family, or do without --draft",
        )


def draft_options(ring: RingOptions) -> DraftOptions | None:
    """What the draft process is started with; None: there is none."""
    if not ring.draft or ring.speculate == "none":
        return None
    path = Path(ring.draft)
    described = describe(open_model(path), ModelId(""))
    cells = ring.streams * ring.context
    return DraftOptions(
        model=ring.draft,
        n_slots=ring.streams,
        context=ring.context,
        rows_max=ring.rows_max,
        threads=ring.threads,
        threads_large=ring.threads_large,
        hints_max=GUESS_ROWS,
        need_bytes=path.stat().st_size + kv_bytes(described, 0, described.n_layers, cells),
    )


def ends_options(model: FoundModel, prepared: Prepared, ring: RingOptions) -> EndsOptions:
    """What the ends process is started with."""
    manifest, head, tail = prepared.manifest, prepared.head, prepared.tail
    n_layers, cells = manifest.n_layers, ring.streams * ring.context
    kv = kv_bytes(manifest, 0, ring.ends, cells)
    kv += kv_bytes(manifest, n_layers - ring.ends, n_layers, cells)
    return EndsOptions(
        model=str(model.path),
        head=str(head.path),
        tail=str(tail.path),
        n_slots=ring.streams,
        context=ring.context,
        rows_max=ring.rows_max,
        threads=ring.threads,
        threads_large=ring.threads_large,
        need_bytes=head.size_bytes + tail.size_bytes + kv,
        checked_max=GUESS_ROWS if ring.speculate != "none" else 1,
    )
