"""A machine that was timed, in the terms of the cost model of `decode`.

A layer of a model and one of next to no weights were timed, with one row and with many:

    one row     k x a + bytes / bandwidth
    the bare    a + its bytes / bandwidth
    n rows      one row + (n - 1) x operations / peak

Two equations give `a`, what a layer takes however small it is, and the bandwidth that software
gets with weights of this packing; the third gives the operations a second. `k` is what layers
of experts take more.
"""

from __future__ import annotations

from dataclasses import dataclass

from atoll.domain.errors import BadRequest
from atoll.domain.measure import NODE_S, Measured
from atoll.forecast.constants import Constants
from atoll.forecast.decode import EXPERT_LAYERS, KV_BITS, usual_runtime
from atoll.forecast.devices import Device, Kind, Timing
from atoll.forecast.shapes import ModelShape

READING_MIN = 0.2
"""Share of a layer's time that its weights must take: what is less drowns in noise."""


@dataclass(frozen=True, slots=True)
class TimedLayer:
    """A layer that was timed: of which model, the bytes of all its weights, and its times."""

    shape: ModelShape
    weight_bytes: float
    measured: Measured

    @property
    def bits(self) -> float:
        """Of one of its weights."""
        heads = self.shape.head_params * (1 if self.shape.tied else 2)
        weights = (self.shape.counted_params - heads) / self.shape.layers
        return 8 * self.weight_bytes / weights

    @property
    def read_bytes(self) -> float:
        """What one row has memory read: weights that it is computed with, and caches.

        Windows are timed behind as many positions as the largest of them has rows.
        """
        cached = self.shape.kv_values * self.shape.cached_positions(self._behind)
        return self._weights * self.bits / 8 + cached / self.shape.layers * KV_BITS / 8

    @property
    def row_flops(self) -> float:
        """Operations of a row of the largest window, in the middle of it."""
        positions = self.shape.token_flops(1.5 * self._behind) - self.shape.token_flops()
        return 2 * self._weights + positions / self.shape.layers

    @property
    def _weights(self) -> float:
        return (self.shape.active_params - self.shape.head_params) / self.shape.layers

    @property
    def _behind(self) -> int:
        return self.measured.layer_s[-1].rows


def device_of(
    name: str,
    kind: Kind,
    memory: float,
    layer: TimedLayer,
    bare: TimedLayer,
    *,
    constants: Constants,
    source: str,
) -> Device:
    """The machine as a device of the catalogue, with all that was measured of it.

    Args:
        name: What to call it.
        kind: What it is.
        memory: Bytes.
        layer: Of a model, with one row and with many.
        bare: Of next to no weights, with one row.
        constants: Those that forecasts are made with.
        source: Where the figures are from.

    Raises:
        BadRequest: The times do not tell the model's weights from what any layer takes.
    """
    plain = Device(name, kind, memory, 0.0, {}, source=source)
    more = constants.of(EXPERT_LAYERS, usual_runtime(plain)) if layer.shape.experts else 1.0
    one_s, many_s = layer.measured.layer_s[0].seconds, layer.measured.layer_s[-1].seconds
    bare_s = bare.measured.layer_s[0].seconds
    reading_s = one_s - more * bare_s
    if reading_s < READING_MIN * one_s:
        raise BadRequest(
            f"a layer of {layer.shape.name} takes {1e3 * one_s:.3f} ms, and one of next to no"
            f" weights {1e3 * bare_s:.3f} ms: how fast weights are read is not to be seen",
            hint="measure with a larger model, or again with --fresh when the machine is at rest",
        )
    rate = (layer.read_bytes - more * bare.read_bytes) / reading_s
    rows = layer.measured.layer_s[-1].rows
    # No gain of a second row is not a speed without bound: then all rows count.
    more_rows, more_s = (rows - 1, many_s - one_s) if many_s > one_s else (rows, many_s)
    return Device(
        name=name,
        kind=kind,
        memory=memory,
        bandwidth=rate,
        flops={"fp16": more_rows * layer.row_flops / more_s},
        source=source,
        timing=Timing(
            layer_s=max(0.0, bare_s - bare.read_bytes / rate),
            hop_s=bare.measured.overhead_s + NODE_S,
            bits=layer.bits,
        ),
    )
