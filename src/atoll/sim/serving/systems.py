"""The systems that a fleet forms for a model: servers, rings and racks, with their paces."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from atoll.domain.errors import BadRequest
from atoll.forecast.constants import Constants
from atoll.forecast.devices import Device
from atoll.forecast.fleet_file import MixedFleet, Part
from atoll.forecast.paces import Pace
from atoll.forecast.prices import Paid, hourly_usd
from atoll.forecast.ring_paces import Ring, ring_pace, smallest_ring
from atoll.forecast.server_paces import USABLE, lpu_pace, server_pace
from atoll.forecast.shapes import ModelShape
from atoll.ring.coordinator_config import BESIDE_ROWS, CHUNK_ROWS
from atoll.sim.serving.caches import BLOCK_TOKENS, PrefixCache, Tier
from atoll.sim.serving.pools import Pool
from atoll.sim.serving.replica import Replica

COMPUTES_NOTHING = ("memory-pool", "fabric", "fabric-nic")
LPU_BITS = 8.0
"""Of a weight on LPUs: what chip counts of public systems imply (a byte a weight)."""
DESKS = ("soc", "cpu")
HOUR_S = 3600.0
KV_BYTES = 2.0
"""Of a cached value: half precision."""


@dataclass(frozen=True, slots=True)
class Served:
    """A model as it is served: bits of a weight, tokens of prompts and answers on average, how
    long requests wait at most, seconds, and how devices are paid for.
    """

    shape: ModelShape
    bits: float
    lengths: tuple[float, float]
    patience_s: float = math.inf
    paid: Paid = "on-demand"


def pools_of(fleet: MixedFleet, served: Served, constants: Constants) -> list[Pool]:
    """The systems of each part.

    Raises:
        BadRequest: A part cannot hold the model, or too little is published of its devices.
    """
    return [_pool(part, served, constants) for part in fleet.parts]


def _pool(part: Part, served: Served, constants: Constants) -> Pool:
    device = part.line.device
    if device.kind in COMPUTES_NOTHING:
        raise BadRequest(
            f"{device.name} computes nothing", hint="name the machines that it is to serve"
        )
    if part.ring or part.line.is_ring or device.kind in DESKS:
        return _rings(part, served, constants)
    _check_memory(part, served)
    if device.kind == "lpu":
        pace = lpu_pace(served.shape, device, part.line.n, constants, served.paid)
    else:
        _check_published(device, served)
        pace = server_pace(
            *(served.shape, device, part.line.n, served.bits, constants),
            software=part.software,
            lengths=served.lengths,
            paid=served.paid,
        )
    return _filled(part, served, pace, part.count, size=1, spares=0)


def _rings(part: Part, served: Served, constants: Constants) -> Pool:
    ring, count, spares = rings_of(part, served)
    chunk = (CHUNK_ROWS, BESIDE_ROWS)
    pace = ring_pace(ring, constants, chunk=chunk, drafts=part.drafts, paid=served.paid)
    return _filled(part, served, pace, count, size=len(ring.devices), spares=spares)


def rings_of(part: Part, served: Served) -> tuple[Ring, int, int]:
    """A part's rings: one of them, how many there are, and machines that stand by.

    Raises:
        BadRequest: They cannot hold the model, or too little is published of them.
    """
    shape, line = served.shape, part.line
    for device in part.ring or (line.device,):
        if not device.bandwidth or not device.memory:
            raise BadRequest(
                f"the memory of {device.name}, or its bandwidth, is not published",
                hint="describe the device in a file of your own",
            )
    if part.ring:
        devices, count, spares = part.ring, part.count, 0
    else:
        size = part.machines or smallest_ring(shape, line.device, served.bits)
        machines = line.n * part.count
        if size > machines:
            needed = shape.total_params * served.bits / 8 / 2**30
            raise BadRequest(
                f"{part.name} cannot hold {shape.name}: {needed:,.1f} GiB of weights",
                hint=f"it takes {size:,} of them",
            )
        devices, count = (line.device,) * size, machines // size
        spares = machines - size * count
    ways = (line.way_s or 0.0,) * (len(devices) if len(devices) > 1 else 0)
    return Ring(shape, devices, served.bits, ways), count, spares


def _filled(part: Part, served: Served, pace: Pace, count: int, *, size: int, spares: int) -> Pool:
    if part.streams:
        pace = replace(pace, streams_max=part.streams)
    device = part.line.device
    replicas = [
        Replica(
            pace,
            hands_over=part.role == "prefill",
            takes_over=part.role == "decode",
            patience_s=served.patience_s,
            cache=_cache(part, pace),
        )
        for _ in range(count)
    ]
    return Pool(
        name=part.name,
        replicas=replicas,
        size=size,
        spares=spares,
        leave_rate=part.leave / HOUR_S,
        back_s=part.back_s,
        takeover_s=part.takeover_s,
        watts=pace.watts[1] / size,
        hourly=hourly_usd(device, served.paid),
    )


def _cache(part: Part, pace: Pace) -> PrefixCache | None:
    """Of one system: what streams leave of its memory, and tiers beside it."""
    if not part.reuse or pace.room == math.inf:
        return None
    shape = pace.shape
    block = shape.kv_values * KV_BYTES * shape.layers * BLOCK_TOKENS
    own = Tier(pace.room / shape.layers / BLOCK_TOKENS)
    others = [Tier(tier.bytes / block, block / tier.rate) for tier in part.caches]
    return PrefixCache([own, *others])


def _check_memory(part: Part, served: Served) -> None:
    line = part.line
    bits = LPU_BITS if line.device.kind == "lpu" else served.bits
    needed = served.shape.total_params * bits / 8
    if line.memory * USABLE < needed:
        each = line.device.memory * USABLE
        how = f"it takes {math.ceil(needed / each):,} of them" if each else "its memory is unknown"
        raise BadRequest(
            f"{line.name} cannot hold {served.shape.name}: {needed / 2**30:,.1f} GiB of weights",
            hint=how,
        )


def _check_published(device: Device, served: Served) -> None:
    if not device.bandwidth or not device.best_flops(served.bits):
        raise BadRequest(
            f"the bandwidth of {device.name}, or what it computes, is not published",
            hint="describe the device in a file of your own",
        )
