"""The model that simulated machines serve: numbers of one that has no file."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

from atoll.domain.control import Plan, StagePlan
from atoll.domain.errors import AtollError
from atoll.domain.ids import ModelId, ShardId
from atoll.domain.measure import Measure, ProbeRange
from atoll.engine.ends_messages import EndsOptions
from atoll.model.manifest import Manifest, ShardEntry
from atoll.model.probe_ranges import probe_ranges
from atoll.node.shard_seeker import ShardSeeker, Wanted
from atoll.sim.fake_model import VOCABULARY
from atoll.store.layout import Store
from atoll.store.shards import ShardFile
from atoll.world.machine import Machine

MODEL = ModelId("5" * 64)
N_EMBD = 8
LAYER_BYTES = 1_000_000
KV_BYTES = 8
"""Of a position and layer; of the model of hashes it is the truth."""
ENDS = 1
CONTEXT_TRAIN = 4096
ROWS_MAX = 16


def make_manifest(n_layers: int) -> Manifest:
    """A model of so many layers, with every shard that it could be cut into."""
    ranges = [(a, b) for a in range(n_layers) for b in range(a + 1, n_layers + 1)]
    return Manifest(
        model=MODEL,
        size_bytes=LAYER_BYTES * (n_layers + 2),
        name="hashes",
        architecture="sim",
        quantisation="none",
        n_layers=n_layers,
        n_embd=N_EMBD,
        n_vocab=VOCABULARY,
        context_train=CONTEXT_TRAIN,
        layer_bytes=(LAYER_BYTES,) * n_layers,
        layer_kv_bytes=(KV_BYTES,) * n_layers,
        other_bytes=2 * LAYER_BYTES,
        data_offset=4096,
        shards=tuple(ShardEntry(a, b, shard_id(a, b), LAYER_BYTES * (b - a)) for a, b in ranges),
    )


def shard_id(first: int, last: int) -> ShardId:
    """The hash of a shard, were there a file."""
    return ShardId(hashlib.sha256(f"{first}-{last}".encode()).hexdigest())


def ends_options(context: int, streams: int, rows_max: int) -> EndsOptions:
    """What the ends are started with."""
    return EndsOptions("model", "head", "tail", streams, context, rows_max, 1, 1, checked_max=4)


def measure_order(manifest: Manifest) -> Measure:
    """What nodes are asked to time."""
    short, long = probe_ranges(manifest, range(manifest.n_layers + 1))
    return Measure(
        model=MODEL,
        n_layers=manifest.n_layers,
        data_offset=manifest.data_offset,
        rows_max=ROWS_MAX,
        short=ProbeRange(*short, shard_id(*short)),
        long=ProbeRange(*long, shard_id(*long)) if long is not None else None,
    )


def stage_kv_bytes(_shard: ShardFile, plan: Plan, mine: StagePlan) -> int:
    """What the caches of a stage take."""
    return KV_BYTES * (mine.last - mine.first) * plan.n_slots * plan.context


class NoStore(Store):
    """A store of nothing, on no disk."""

    def __init__(self) -> None:
        self.home = Path("sim")
        self.models_dir = self.shards_dir = self.downloads_dir = self.home


class SimSeeker(ShardSeeker):
    """Finds any shard after a moment, unless the disk is full.

    Args:
        machine: Where it is sought.
        takes_s: How long that takes.
        wanted: Which one; the others are as `ShardSeeker`'s.
    """

    def __init__(
        self, machine: Machine, takes_s: float, wanted: Wanted, *_others: Any, **_named: Any
    ) -> None:
        self._machine, self._takes_s, self._sought = machine, takes_s, wanted

    async def find(self) -> ShardFile:
        """The shard: its file's name says which layers it has.

        Raises:
            AtollError: There is no room for it.
        """
        await asyncio.sleep(self._takes_s * self._machine.slow)
        if self._machine.disk_is_full:
            raise AtollError("cannot cut the shard: No space left on device")
        wanted = self._sought
        size = LAYER_BYTES * (wanted.last - wanted.first)
        return ShardFile(Path(f"{wanted.first}-{wanted.last}"), wanted.shard, size)

    def close(self) -> None:
        """Nothing is kept."""
