"""The pace of a ring: machines that hold some layers each, and pass flights of rows around.

With `F` flights of `r` rows, a stream gets a token every

    max(stages' times for r rows + ways, F x the slowest stage's time for r rows)

and a prompt's positions pass the stages one behind the other, so that they hold up the
slowest. Machines without like get layers by their speed, as far as their memory goes.

Sources: pipelines, Petals, arXiv:2209.01188, section 3.2; flights, docs/explanation/ring.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from atoll.domain.errors import BadRequest
from atoll.forecast.constants import Constants
from atoll.forecast.decode import DecodeRun, prompt_s, rows_s, token_s, usual_runtime
from atoll.forecast.devices import Device
from atoll.forecast.drafts import Drafts
from atoll.forecast.outlook import USABLE
from atoll.forecast.paces import Pace
from atoll.forecast.power import desk_watts, idle_desk_watts
from atoll.forecast.prices import Paid, hourly_usd
from atoll.forecast.shapes import ModelShape
from atoll.forecast.spread import distance_s

SLOTS_MAX = 256
"""Sessions of a stage: llama.cpp's LLAMA_MAX_SEQ."""
WINDOW = (256, 128)
"""Rows of a prompt's window, alone and beside streams: `CHUNK_ROWS` and `BESIDE_ROWS` of the
ring's coordinator.
"""
KV_BITS = 16.0
STACK = "Atoll"


@dataclass(frozen=True, slots=True)
class Ring:
    """Machines in their order, so far apart one way, seconds, with the way back last; one
    machine alone has no ways.
    """

    shape: ModelShape
    devices: tuple[Device, ...]
    bits: float
    ways_s: tuple[float, ...]

    def run(self, device: Device) -> DecodeRun:
        """The whole model on one of them."""
        return DecodeRun(self.shape, device, self.bits, usual_runtime(device))


def ring_pace(
    ring: Ring,
    constants: Constants,
    *,
    drafts: Drafts | None = None,
    paid: Paid = "on-demand",
) -> Pace:
    """The pace of a ring.

    Args:
        ring: Its machines and ways.
        constants: What was fitted.
        drafts: What guesses; none: nothing does.
        paid: How machines are come by.

    Raises:
        BadRequest: They cannot hold the model.
    """
    shape, n = ring.shape, len(ring.devices)
    drafts = drafts or Drafts()
    layers = share_layers(ring, constants)
    shares = [count / shape.layers for count in layers]
    runs = [ring.run(device) for device in ring.devices]
    hops = ring.devices if ring.ways_s else ()
    distance = distance_s(hops, ring.ways_s, STACK, constants)
    lanes = n + 1 if n > 1 else 1

    def stages_s(rows: float) -> list[float]:
        return [
            share * rows_s(run, rows, constants) for share, run in zip(shares, runs, strict=True)
        ]

    def fixed_s(streams: int) -> float:
        flights = min(streams, lanes)
        stages = stages_s(drafts.rows * streams / flights)
        guesses_s = drafts.depth * drafts.guess_s
        return max(sum(stages) + distance + guesses_s, flights * max(stages))

    cell = shape.kv_values * KV_BITS / 8
    reads = [cell / read_rate(run, constants) for run in runs]
    row = [prompt_s(run, 1.0, constants) / shape.token_flops(0.5) for run in runs]
    slowest = max(share * each for share, each in zip(shares, row, strict=True))
    beyond = sum(share * each for share, each in zip(shares, row, strict=True)) - slowest
    return Pace(
        shape=shape,
        fixed_s=fixed_s,
        position_s=sum(share * each for share, each in zip(shares, reads, strict=True)),
        operation_s=slowest,
        chunk=(WINDOW[0] * lanes, WINDOW[1] * lanes),
        room=_room(ring, layers),
        streams_max=SLOTS_MAX,
        first_s=distance,
        fill_s=beyond * shape.token_flops(WINDOW[0] / 2),
        flights=lanes,
        slowest_s=lambda streams: (
            min(streams, lanes) * max(stages_s(drafts.rows * streams / min(streams, lanes)))
        ),
        tokens=drafts.tokens,
        watts=_watts(ring.devices, constants),
        hourly=sum(hourly_usd(device, paid) for device in ring.devices),
    )


def share_layers(ring: Ring, constants: Constants) -> list[int]:
    """Layers of each machine: by its speed, no more than its memory holds.

    Raises:
        BadRequest: They cannot hold the model together.
    """
    total = ring.shape.layers
    layer_bytes = ring.shape.total_params * ring.bits / 8 / total
    most = [int(device.memory * USABLE / layer_bytes) for device in ring.devices]
    if sum(most) < total:
        raise BadRequest(
            f"the ring's machines hold {sum(most)} of {total} layers of {ring.shape.name}",
            hint="add machines, or pack weights more tightly",
        )
    speed = [1 / token_s(ring.run(device), constants) for device in ring.devices]
    given = [0] * len(speed)
    for _ in range(total):
        # The next layer goes where it is done soonest.
        open_to = [i for i in range(len(speed)) if given[i] < most[i]]
        given[min(open_to, key=lambda i: (given[i] + 1) / speed[i])] += 1
    return given


def smallest_ring(shape: ModelShape, device: Device, bits: float, context: float) -> int:
    """How many such machines hold the model, and the caches of a stream of so many positions.

    Raises:
        BadRequest: No number of them does: one cannot hold a layer.
    """
    layer_bytes = shape.total_params * bits / 8 / shape.layers
    caches = shape.kv_values * KV_BITS / 8 * shape.cached_positions(context) / shape.layers
    most = int(device.memory * USABLE / (layer_bytes + caches))
    if not most:
        raise BadRequest(
            f"{device.name} cannot hold a layer of {shape.name}",
            hint="pack weights more tightly, or take machines with more memory",
        )
    return -(-shape.layers // most)


def _room(ring: Ring, layers: Sequence[int]) -> float:
    """Positions of a layer that all layers together have memory for."""
    shape = ring.shape
    layer_bytes = shape.total_params * ring.bits / 8 / shape.layers
    cell = shape.kv_values * KV_BITS / 8
    free = [
        (device.memory * USABLE - count * layer_bytes) / (count * cell)
        for device, count in zip(ring.devices, layers, strict=True)
        if count
    ]
    return shape.layers * max(0.0, min(free))


def read_rate(run: DecodeRun, constants: Constants) -> float:
    """Bytes a second at which a machine reads: from what more to read takes."""
    more = run.shape.kv_values * KV_BITS / 8 * run.shape.cached_positions(1.0)
    longer = DecodeRun(run.shape, run.device, run.bits, run.runtime, context=1.0)
    return more / (token_s(longer, constants) - token_s(run, constants))


def _watts(devices: Sequence[Device], constants: Constants) -> tuple[float, float]:
    if not all(device.power for device in devices):
        return (0.0, 0.0)
    busy = sum(desk_watts(device, "", constants) for device in devices)
    return (busy, sum(idle_desk_watts(device, constants) for device in devices))
