"""This project's own ring on this machine, forecast from what `atoll probe` measured of it.

Rings of one to three nodes whose ways all take as long (`fleet_lab`), one thread a node, one
stream. The forecast is that of `atoll compare`: the layers' time, the ways that the links are
told to take, and for each hop what was measured. Nothing is taken from the rings themselves.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from atoll.engine.threads import SHARED_SPIN, shorten_slices
from atoll.forecast.constants import shipped_fit
from atoll.forecast.decode import DecodeRun, usual_runtime
from atoll.forecast.devices import Device
from atoll.forecast.gguf_shape import bits_of_gguf, shape_of_gguf
from atoll.forecast.ring_paces import STACK
from atoll.forecast.spread import pipeline_s
from atoll.gateway.options import RingOptions
from atoll.model.architectures import boundaries
from atoll.model.parts import open_model
from atoll.node.options import NodeOptions
from atoll.node.own_device import Timed, own_device, probe_job
from atoll.node.probe import measure
from atoll.plan.equal import equal_cut
from atoll.store.layout import FoundModel, Store, default_home
from atoll.store.pull import pull
from bench.fleet_lab import PROMPT, Lab, LabNode, open_lab
from bench.forecast.score import quantile
from bench.local import DEMO_SOURCE, talk

NODES = tuple(LabNode(f"n{i}", 1.0, 0.0) for i in (1, 2, 3))
WAYS_MS = (0.0, 1.0, 5.0, 20.0)
RING_OPTIONS = RingOptions(
    nodes=len(NODES),
    streams=1,
    context=512,
    spin=SHARED_SPIN,
    gpu="none",
    # A token is forecast to take a lap.
    speculate="none",
    reuse=False,
)
STAGE = NodeOptions("own", "", threads=1, threads_large=1, spin=SHARED_SPIN, gpu="none")
"""As the lab's nodes run their stages."""
TOKENS, ROUNDS = 32, 5
LIMIT_S = 900


@dataclass(frozen=True, slots=True)
class Setting:
    """A ring of so many nodes, each way so long, and what a token takes."""

    nodes: int
    way_ms: float
    forecast_s: float
    measured_s: float

    @property
    def error(self) -> float:
        """How far off, as a share of what was measured: above 0, too much is foretold."""
        return self.forecast_s / self.measured_s - 1


def figures(settings: Sequence[Setting]) -> dict[str, Any]:
    """The errors' median and 90th percentile, and each setting: nodes, ways, times in ms."""
    errors = [abs(setting.error) for setting in settings]
    return {
        "own_median": round(quantile(errors, 0.5), 3),
        "own_p90": round(quantile(errors, 0.9), 3),
        "own_n": len(errors),
        "own_settings": [
            [s.nodes, s.way_ms, round(1e3 * s.forecast_s, 2), round(1e3 * s.measured_s, 2)]
            for s in settings
        ],
    }


async def probed(model: FoundModel, store: Store) -> Device:
    """This machine as `atoll probe` describes it, measured now."""
    shorten_slices()
    job = probe_job(model, store)
    measured = (await measure(job, STAGE, None)).measured
    return await own_device(Timed(model, job, measured), STAGE, None, name="own")


def forecast_s(device: Device, model: FoundModel, nodes: int, way_s: float) -> float:
    """A token of one stream, round a ring of so many nodes and the gateway."""
    gguf = open_model(model.path)
    run = DecodeRun(
        *(shape_of_gguf(gguf, name=model.name), device, bits_of_gguf(gguf), usual_runtime(device)),
        context=len(PROMPT) + TOKENS / 2,
    )
    return pipeline_s(run, (way_s,) * (nodes + 1), STACK, shipped_fit().constants)


async def _measured_s(lab: Lab, parts: Sequence[tuple[str, int, int]], way_ms: float) -> float:
    # All are half a way from the middle.
    lab.delays_s.update(dict.fromkeys(lab.delays_s, way_ms / 2e3))
    await lab.ring(parts)
    return await lab.token_s(TOKENS, ROUNDS)


async def _all(
    model: FoundModel, store: Store, folder: Path, sizes: Sequence[int], ways_ms: Sequence[float]
) -> list[Setting]:
    device = await probed(model, store)
    talk(f"own machine: {device}")
    gguf = open_model(model.path)
    cuts, n_layers = boundaries(gguf), shape_of_gguf(gguf, name=model.name).layers
    settings = []
    async with open_lab(model, store, folder, NODES, RING_OPTIONS) as lab:
        for size in sizes:
            ranges = equal_cut(n_layers, RING_OPTIONS.ends, size, cuts)
            parts = [(node.name, *part) for node, part in zip(NODES, ranges, strict=False)]
            for way_ms in ways_ms:
                expected_s = forecast_s(device, model, size, way_ms / 1e3)
                taken_s = await _measured_s(lab, parts, way_ms)
                settings.append(Setting(size, way_ms, expected_s, taken_s))
                talk(
                    f"{size} nodes, {way_ms:g} ms a way: {1e3 * expected_s:.1f} ms a token"
                    f" forecast, {1e3 * taken_s:.1f} measured"
                )
    return settings


def run(*, sizes: Sequence[int] = (1, 2, 3), ways_ms: Sequence[float] = WAYS_MS) -> dict[str, Any]:
    """Probe this machine, then measure each ring beside its forecast; some minutes."""
    store = Store(default_home())
    model = store.resolve(pull(DEMO_SOURCE, store=store).model)
    with (
        tempfile.TemporaryDirectory(prefix="atoll-bench-") as name,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        work = _all(model, store, Path(name), sizes, ways_ms)
        return figures(runner.run(asyncio.wait_for(work, LIMIT_S)))
