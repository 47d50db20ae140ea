"""This machine as a device of forecasts: a model's layers timed, and made ones beside them.

What a stage would do with the same options is what is forecast of it.
"""

from __future__ import annotations

import asyncio
import platform
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from atoll.domain.errors import EngineFault
from atoll.domain.ids import ModelId
from atoll.domain.measure import PROBE_ROWS, RAM, Measured, TierMemory
from atoll.engine.devices import INTEGRATED, NONE, PROCESSOR
from atoll.forecast.constants import shipped_fit
from atoll.forecast.device_file import PROBED
from atoll.forecast.devices import Device, Kind
from atoll.forecast.gguf_shape import shape_of_gguf
from atoll.forecast.measured import TimedLayer, TimedLayers, device_of
from atoll.model.architectures import boundaries
from atoll.model.gguf_types import TensorType
from atoll.model.made import BARE, MadeShape, plain_shape, write_made
from atoll.model.manifest import describe, weight_bytes
from atoll.model.parts import open_model
from atoll.model.probe_ranges import probe_ranges
from atoll.model.shard import write_shard
from atoll.node.options import NodeOptions
from atoll.node.probe import ProbeJob, ProbeShard, measure
from atoll.node.probe_cache import ProbeCache
from atoll.store.layout import FoundModel, Store, sha256_of
from atoll.store.shards import ensure_shard

WIDE_BITS = 9.0
"""Weights of more bits are timed beside narrow ones, others beside wide ones."""
CPU_INFO = Path("/proc/cpuinfo")


def probe_job(model: FoundModel, store: Store) -> ProbeJob:
    """What is timed of a model that is here; its shards are cut.

    Raises:
        AtollError: The model cannot be cut.
    """
    gguf = open_model(model.path)
    short, long = probe_ranges(describe(gguf, model.model), boundaries(gguf))

    def cut(first: int, last: int) -> ProbeShard:
        file = ensure_shard(store, model, first, last)
        return ProbeShard(file.path, file.size_bytes, first, last)

    return ProbeJob(model.model, cut(*short), cut(*long) if long else None, PROBE_ROWS[-1])


@dataclass(frozen=True, slots=True)
class Timed:
    """What was timed of a model's layers: by which job, with which result."""

    model: FoundModel
    job: ProbeJob
    measured: Measured


async def own_device(
    timed: Timed, options: NodeOptions, cache: ProbeCache | None, *, name: str, fresh: bool = False
) -> Device:
    """This machine, with the model's layers as they were timed and made ones timed now.

    Args:
        timed: The model's layers.
        options: With which they were timed.
        cache: What was measured before; None: nothing is known, nothing is kept.
        name: What to call it; empty: as host and processor, or GPU.
        fresh: Measure made layers even where nothing has changed.

    Raises:
        EngineFault: They cannot be timed.
        BadRequest: The times do not tell how fast weights are read.
    """
    same = replace(options, gpu=NONE) if timed.measured.device == PROCESSOR else options

    async def made(shape: MadeShape) -> TimedLayer:
        with tempfile.TemporaryDirectory(prefix="atoll-made-") as folder:
            model, job = await asyncio.to_thread(_made, shape, Path(folder))
            measured = (await measure(job, same, cache, fresh=fresh)).measured
            if measured.device != timed.measured.device:
                raise EngineFault(
                    f"the model's layers were timed on {timed.measured.device}, made ones are on"
                    f" {measured.device}",
                    hint="name the GPU with --gpu",
                )
            return _layer(Timed(model, job, measured))

    layer = _layer(timed)
    other = TensorType.F16 if layer.bits < WIDE_BITS else TensorType.Q4_0
    layers = TimedLayers(layer, await made(BARE), await made(plain_shape(other)))
    day = time.strftime("%Y-%m-%d", time.gmtime(timed.measured.measured_at_s))
    threads = f"{options.threads} and {options.threads_large} threads"
    kind, memory = kind_and_memory(timed.measured.device, timed.measured.memory)
    return device_of(
        *(name or machine_name(timed.measured.device), kind, memory, layers),
        constants=shipped_fit().constants,
        source=f"{PROBED}, {day}, {timed.model.name}, {threads}",
    )


def machine_name(device: str) -> str:
    """What a machine is called unless told: the host, and its processor or GPU."""
    return f"{platform.node()} {_processor() if device == PROCESSOR else device}".strip()


def _processor() -> str:
    """What the system calls it; on Linux /proc/cpuinfo, where boards say `Model`."""
    try:
        lines = CPU_INFO.read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    told = {
        key.strip().lower(): value.strip() for key, _, value in (s.partition(":") for s in lines)
    }
    return told.get("model name") or told.get("model") or platform.processor() or platform.machine()


def _made(shape: MadeShape, folder: Path) -> tuple[FoundModel, ProbeJob]:
    """A made model, and what is timed of it: a lone row through a layer, and through most."""
    path = write_made(folder / "made.gguf", shape)
    found = FoundModel(ModelId(sha256_of(path)), path, "made layers")

    def cut(first: int, last: int) -> ProbeShard:
        shard = folder / f"{first}-{last}.gguf"
        return ProbeShard(shard, write_shard(path, first, last, shard).size_bytes, first, last)

    return found, ProbeJob(found.model, cut(1, 2), cut(1, shape.n_layers - 1), 1)


def _layer(timed: Timed) -> TimedLayer:
    """Of the layers whose time was taken for one layer's: those that only the long shard has."""
    gguf = open_model(timed.model.path)
    manifest = describe(gguf, timed.model.model)
    short, long = timed.job.short, timed.job.long
    first, last = (short.last, long.last) if long else (short.first, short.last)
    each = weight_bytes(manifest, first, last) / (last - first)
    return TimedLayer(shape_of_gguf(gguf, name=timed.model.name), each, timed.measured)


def kind_and_memory(device: str, memory: tuple[TierMemory, ...]) -> tuple[Kind, int]:
    """What computes, and its memory; a GPU that cannot tell it has the machine's.

    Args:
        device: As it was measured.
        memory: Of the machine, and of each GPU.
    """
    ram = next(tier.total_bytes for tier in memory if tier.kind == RAM)
    if device == PROCESSOR:
        return "cpu", ram
    gpu = next((tier for tier in memory if tier.name == device), None)
    if gpu is None:
        return "gpu", ram
    return "soc" if gpu.kind == INTEGRATED else "gpu", gpu.total_bytes or ram
