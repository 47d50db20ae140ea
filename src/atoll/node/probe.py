"""Measures this machine: its memory, and the time of a layer as a stage would compute it.

A shard of one layer and one of several are loaded into stage processes, one after
the other, just as a stage of a ring is: same threads, same device, same road from
the node into the engine and back. Windows of one session are timed from here.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from msgspec.structs import replace

from atoll.domain.errors import EngineFault
from atoll.domain.ids import ModelId
from atoll.domain.measure import PROBE_ROWS, RAM, Measured, TierMemory, rows_for
from atoll.domain.wire import F16_SCALED
from atoll.engine import codec
from atoll.engine.devices import NONE, PROCESSOR, Device
from atoll.engine.library import ENGINE_BUILD, find_library
from atoll.engine.place import may_have_gpu, place, probe
from atoll.engine.stage_client import ENGINE_SPARE_BYTES, StageProcess
from atoll.engine.stage_messages import Computed, Item, Loaded, StageOptions
from atoll.model.manifest import describe, kv_bytes
from atoll.model.parts import open_model
from atoll.node.caches import Caches
from atoll.node.options import NodeOptions
from atoll.node.probe_cache import ProbeCache, ProbeKey
from atoll.node.probe_fit import CallTime, fit

BUDGET_S = 2.0
"""What all timed calls of a probe may take together; where one call is slow there are fewer."""
FIRST_SHARE = 3
"""How much more of it than other sizes a lone row gets, whose time is the shortest and noisiest."""
SAMPLES_MAX = 100
SAMPLES_MIN = 3
QUARTILE = 0.25
"""What is taken of the samples. Other programs only add to a call: where they run half the
time the median is theirs, the fastest quarter still ours. On a quiet machine they agree to 3 %."""
CALL_S = 60.0
"""How long one call may take before the machine is of no use for this model."""


@dataclass(frozen=True, slots=True)
class ProbeShard:
    """A shard to time: layers [first, last), in a file of `size_bytes`."""

    path: Path
    size_bytes: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class ProbeJob:
    """What is to be timed.

    Args:
        model: What the shards are cut from.
        short: One layer, or as few as the model can be cut into.
        long: Several layers; None: `short` alone, and the time inside the engine
            counts as that of its layers.
        rows_max: Most rows in a call.
    """

    model: ModelId
    short: ProbeShard
    long: ProbeShard | None
    rows_max: int

    @property
    def shards(self) -> list[ProbeShard]:
        """The short one, and the long one if there is one."""
        return [self.short] if self.long is None else [self.short, self.long]


async def memory_tiers(gpu: str) -> tuple[TierMemory, ...]:
    """Free and total memory of the machine, and of each GPU that the engine lists.

    Args:
        gpu: As for `engine.devices.choose`; with `none` GPUs are not asked for.

    Raises:
        EngineFault: The engine cannot be asked.
    """
    ram = psutil.virtual_memory()
    tiers = [TierMemory("RAM", RAM, ram.available, ram.total)]
    if gpu != NONE and may_have_gpu():
        tiers += [TierMemory(d.title, d.kind, d.free_bytes, d.total_bytes) for d in await probe()]
    return tuple(tiers)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was measured, now or before (`recalled`), and the key under which it is kept."""

    measured: Measured
    key: ProbeKey
    recalled: bool


async def measure(
    job: ProbeJob,
    options: NodeOptions,
    cache: ProbeCache | None,
    *,
    fresh: bool = False,
    keep: bool = True,
) -> Outcome:
    """Time the layers, unless that was done before and nothing has changed.

    Args:
        job: What to time.
        options: How the stage would be run.
        cache: What was measured before; None: nothing is known, nothing is kept.
        fresh: Measure even so.
        keep: Whether a new result is kept for later.

    Returns:
        The result; memory is always that of now.

    Raises:
        EngineFault: A shard cannot be loaded or computed, or the GPU asked for
            cannot be had.
    """
    largest = max(job.shards, key=lambda shard: shard.size_bytes)
    need_bytes = largest.size_bytes + await asyncio.to_thread(_kv_bytes, largest, job.model)
    device = await place(options.gpu, need_bytes)
    key = _key(job, options, device)
    found = None if fresh or cache is None else cache.find(key)
    if found is not None:
        memory = await memory_tiers(options.gpu)
        return Outcome(replace(found, memory=memory), key, recalled=True)
    measured = await time_layers(job, options, device)
    if cache is not None and keep:
        cache.keep(key, measured)
    return Outcome(measured, key, recalled=False)


def _key(job: ProbeJob, options: NodeOptions, device: Device | None) -> ProbeKey:
    return ProbeKey(
        model=job.model,
        engine_build=ENGINE_BUILD,
        library=str(find_library()),
        device=device.title if device is not None else PROCESSOR,
        threads=options.threads,
        threads_large=options.threads_large,
        spin=options.spin,
        rows=rows_for(job.rows_max),
        short=(job.short.first, job.short.last),
        long=(job.long.first, job.long.last) if job.long is not None else None,
    )


async def time_layers(job: ProbeJob, options: NodeOptions, device: Device | None) -> Measured:
    """Load the shards on `device` and time them.

    Raises:
        EngineFault: A shard cannot be loaded or computed.
    """
    memory = await memory_tiers(options.gpu)
    # Its memory is large, and the system takes a tenth of a second to hand it out.
    caches = Caches()
    found: list[tuple[list[CallTime], Loaded]] = []
    for shard in job.shards:
        timing = _Timing(job, shard, options, device, caches)
        found.append(await timing.run(BUDGET_S / len(job.shards)))
    (short_times, loaded), *others = found
    fitted = (
        fit(short_times, loaded.n_layers, others[0][0], others[0][1].n_layers)
        if others
        else fit(short_times, loaded.n_layers)
    )
    return Measured(
        model=job.model,
        engine_build=loaded.build,
        device=loaded.device,
        threads=options.threads,
        threads_large=options.threads_large,
        layer_s=fitted.layer_s,
        overhead_s=fitted.overhead_s,
        memory=memory,
        measured_at_s=time.time(),
    )


class _Timing:
    """One shard in one stage process."""

    def __init__(
        self,
        job: ProbeJob,
        shard: ProbeShard,
        options: NodeOptions,
        device: Device | None,
        caches: Caches,
    ) -> None:
        self._model, self._shard = job.model, shard
        self._options, self._device = options, device
        self._rows = rows_for(job.rows_max)
        self._process = StageProcess(self._computed, self._gone)
        self._answer: asyncio.Future[tuple[Computed, float]]
        self._called_s = 0.0
        self._batch = 0
        self._caches = caches
        self._rng = np.random.default_rng(0)

    async def run(self, budget_s: float) -> tuple[list[CallTime], Loaded]:
        """Load, time every window size, and end the process."""
        largest = self._rows[-1]
        kv = await asyncio.to_thread(_kv_bytes, self._shard, self._model)
        asked = StageOptions(
            path=str(self._shard.path),
            n_slots=1,
            context=2 * largest,
            rows_max=largest,
            threads=self._options.threads,
            threads_large=self._options.threads_large,
        )
        try:
            loaded = await self._process.start(
                asked,
                memory_bytes=2 * self._shard.size_bytes + kv + ENGINE_SPARE_BYTES,
                spin=self._options.spin,
                gpu=self._device,
            )
            # What windows attend to: positions before them, as in a session under way.
            await self._call(0, self._window(largest, loaded.n_embd), largest)
            share_s = budget_s / (len(self._rows) + FIRST_SHARE - 1)
            times = [
                await self._time(rows, loaded.n_embd, share_s * (FIRST_SHARE if i == 0 else 1))
                for i, rows in enumerate(self._rows)
            ]
            return times, loaded
        finally:
            await self._process.close()

    async def _time(self, rows: int, n_embd: int, budget_s: float) -> CallTime:
        """The fastest quarter of several calls; the first is not counted."""
        window = self._window(rows, n_embd)
        await self._call(self._rows[-1], window, rows)
        calls: list[float] = []
        engine: list[float] = []
        until_s = time.perf_counter() + budget_s
        while len(calls) < SAMPLES_MAX and (
            len(calls) < SAMPLES_MIN or time.perf_counter() < until_s
        ):
            await asyncio.to_thread(self._caches.evict)
            answer, call_s = await self._call(self._rows[-1], window, rows)
            calls.append(call_s)
            engine.append(answer.engine_s)
            if call_s > budget_s:
                break
        return CallTime(
            rows, float(np.quantile(calls, QUARTILE)), float(np.quantile(engine, QUARTILE))
        )

    async def _call(self, keep: int, window: bytes, rows: int) -> tuple[Computed, float]:
        self._answer = asyncio.get_running_loop().create_future()
        self._batch += 1
        items = (Item(0, keep, rows, False, F16_SCALED),)
        self._called_s = time.perf_counter()
        self._process.compute(self._batch, items, [window])
        try:
            async with asyncio.timeout(CALL_S):
                answer, call_s = await self._answer
        except TimeoutError:
            raise EngineFault(
                f"a window of {rows} rows took longer than {CALL_S:g} s in a shard of"
                f" {self._shard.size_bytes >> 20} MiB"
            ) from None
        if answer.problems != ("",):
            raise EngineFault(f"the layers cannot be timed: {answer.problems[0]}")
        return answer, call_s

    def _window(self, rows: int, n_embd: int) -> bytes:
        hidden = self._rng.standard_normal((rows, n_embd)).astype(np.float32)
        return codec.encode(hidden, F16_SCALED)

    def _computed(self, answer: Computed, _payload: bytes) -> None:
        call_s = time.perf_counter() - self._called_s
        if not self._answer.done():
            self._answer.set_result((answer, call_s))

    def _gone(self, fault: EngineFault) -> None:
        if not self._answer.done():
            self._answer.set_exception(fault)


def _kv_bytes(shard: ProbeShard, model: ModelId) -> int:
    """KV cache of all of a shard's layers for the positions that are timed."""
    manifest = describe(open_model(shard.path), model)
    return kv_bytes(manifest, 0, manifest.n_layers, 2 * PROBE_ROWS[-1])
