"""Rows of models that are spread over machines: Shard, exo, prima.cpp, distributed-llama, RPC.

The machines and ways of each are written down here from what its authors published; where
they did not say which machines, the row is set apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from atoll.domain.errors import BadRequest
from atoll.forecast.constants import Constant, Constants
from atoll.forecast.decode import DecodeRun, token_s
from atoll.forecast.devices import Device, shipped_devices
from atoll.forecast.models import shipped_models
from atoll.forecast.shapes import ModelShape
from atoll.forecast.spread import Tier, Way, pipeline_s, split_s, tiers_s
from bench.forecast.cases import Apart, Case
from bench.forecast.rows import Row

GIB = 1024.0**3
SYSTEMS = ("exo", "llama.cpp RPC", "Petals", "Shard", "prima.cpp", "distributed-llama")
CLUSTER = "home cluster D1-D4"

GIGABIT = 125e6
THUNDERBOLT_RATE = 5e9
"""Of Thunderbolt 5's 80 Gbit/s what a program gets is not published; half is taken."""
RDMA_WAY_S = 25e-6
TCP_WAY_S = 150e-6
"""Half of "below 50 us" and of "about 300 us": jeffgeerling.com, 1.5 TB of VRAM on Mac Studio."""
WIFI_WAY_S, WIFI_RATE = 2.5e-3, 58e6
"""prima.cpp's test bed: 3 to 7 ms a round trip, 320 to 610 Mbit/s."""
SWITCH_WAY_S = 0.15e-3
"""Two boards behind a switch of Gigabit Ethernet."""
SHARD_US_WAYS_S = tuple(ms / 1e3 for ms in (35.1, 44.9, 74.8, 57.9, 22.0, 32.0, 24.8))
"""Round trips of the edges, each passed there and back, as the relay returns the same way."""
SHARD_EU_WAYS_S = (10.75e-3,) * 6
"""Five stages and the coordinator: legs of 5 to 38 ms a round trip, their middle halved."""

# Memory that was free on prima.cpp's four machines, and on the one with the larger card: its
# README, table of the test bed. That more is used than was free shows in its own times.
CARDS_BYTES, CARD_BYTES = 19 * GIB, 11 * GIB
ALL_RAM = Constant("wide.all_ram", 18.1 * GIB, (0.4,), "free memory of the four machines")
DESK_RAM = Constant("wide.desk_ram", 9.7 * GIB, (0.4,), "free memory of the desktop")
CARD_RATE = Constant("wide.card_rate", 450e9, (0.3,), "616 and 448 GB/s named, in part used")
RAM_RATE = Constant("wide.ram_rate", 38e9, (0.3,), "two channels of DDR4")
DISK_RATE = Constant("wide.disk_rate", 1.5e9, (0.5,), "an NVMe disk, read by pages")
LAYER_S = Constant("wide.cluster_layer_s", 0.2e-3, (0.5,), "kernels of a layer on those cards")

Formula = Callable[[Constants], float]


def read(row: Row) -> Case | Apart | None:
    """Of a row of a spread model, its case."""
    if row.device != CLUSTER and not row.system.startswith(SYSTEMS):
        return None
    if not row.n:
        return Apart(row, "how many machines they were is not published")
    if row.device == CLUSTER:
        return _read(row, _on_cluster)
    if row.unit not in ("tok/s", "ms") or "bytes" in row.metric or "prefill" in row.metric:
        return Apart(row, "not a time per token")
    if (
        "spec" in row.system.replace("no speculation", "")
        or "EAGLE" in row.system
        or ("draft" in row.system)
    ):
        return Apart(row, "how many guesses were taken is not published")
    if "aggregate" in row.metric:
        return Apart(row, "several streams")
    return _read(row, _elsewhere)


def _read(row: Row, formula_of: Callable[[Row, ModelShape], Formula | str]) -> Case | Apart:
    try:
        found = formula_of(row, shipped_models().shapes.find(row.model))
    except BadRequest as problem:
        return Apart(row, str(problem))
    if isinstance(found, str):
        return Apart(row, found)

    def predict(constants: Constants) -> float:
        seconds = found(constants)
        return 1 / seconds if row.unit == "tok/s" else 1e3 * seconds

    return Case("wide", row.system.split(",")[0], row, predict)


def _on_cluster(row: Row, shape: ModelShape) -> Formula | str:
    bits = shipped_models().bits(shape, "Q4_K_M")
    needed = shape.active_params * bits / 8
    if row.system in ("prima.cpp", "llama.cpp"):
        alone = row.system == "llama.cpp"

        def tiered(constants: Constants) -> float:
            ram = constants.of(DESK_RAM if alone else ALL_RAM)
            tiers = (
                Tier(CARD_BYTES if alone else CARDS_BYTES, constants.of(CARD_RATE)),
                Tier(ram, constants.of(RAM_RATE)),
                Tier(1e12, constants.of(DISK_RATE)),
            )
            return shape.layers * constants.of(LAYER_S) + tiers_s(needed, tiers)

        return tiered
    card = shipped_devices().find("RTX 2080 Ti")
    if row.system == "distributed-llama":
        run = _run(card, shape, bits, "cuda")
        return lambda c: split_s(run, row.n, Way(WIFI_WAY_S, WIFI_RATE), row.system, c)
    slow = _run(card, shape, bits, "exo", eager=True)
    return lambda c: pipeline_s(slow, (WIFI_WAY_S,) * row.n, row.system, c)


def _elsewhere(row: Row, shape: ModelShape) -> Formula | str:
    device = shipped_devices().find_in(row.device)
    if device is None or not device.bandwidth:
        return f"which machines they were is not published: {row.device!r}"
    bits = shipped_models().bits(shape, _precision(row))
    stack = row.system.split(",")[0]
    if row.system.startswith("exo"):
        run = _run(device, shape, bits, "mlx", eager="2024" in row.system)
        if "TP" in row.system:
            return lambda c: split_s(run, row.n, Way(RDMA_WAY_S, THUNDERBOLT_RATE), stack, c)
        ways = () if row.n == 1 else (TCP_WAY_S,) * row.n
        return lambda c: pipeline_s(run, ways, stack, c)
    if row.system.startswith("llama.cpp RPC"):
        run = _run(device, shape, bits, "metal")
        ways = () if row.n == 1 else (TCP_WAY_S,) * row.n
        return lambda c: pipeline_s(run, ways, stack, c)
    if row.system.startswith("distributed-llama"):
        run = _run(device, shape, bits, "cpu")
        if not row.metric.startswith("sync"):
            return lambda c: split_s(run, row.n, Way(SWITCH_WAY_S, GIGABIT), stack, c)
        if row.n == 1:
            return "one machine exchanges nothing"
        part = replace(run, machines=row.n)
        return lambda c: (
            split_s(run, row.n, Way(SWITCH_WAY_S, GIGABIT), stack, c) - token_s(part, c)
        )
    run = _run(device, shape, bits, "shard", context=row.prompt, eager=True)
    ways_s = SHARD_EU_WAYS_S if "5090" in row.device else SHARD_US_WAYS_S
    if row.metric.startswith("stage compute"):
        return lambda c: token_s(run, c)
    if row.metric.startswith("transport"):
        return lambda c: pipeline_s(run, ways_s, stack, c) - token_s(run, c)
    return lambda c: pipeline_s(run, ways_s, stack, c)


def _run(
    device: Device,
    shape: ModelShape,
    bits: float,
    runtime: str,
    *,
    context: float = 0.0,
    eager: bool = False,
) -> DecodeRun:
    return DecodeRun(shape, device, bits, runtime, context=context, eager=eager)


def _precision(row: Row) -> str:
    if row.system.startswith("exo") and row.precision in ("4-bit", "8-bit"):
        return f"MLX-{row.precision.replace('-', '')}"
    return row.precision
