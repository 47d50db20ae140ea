"""A machine that was timed, in the terms of the cost model of `decode`.

Layers of a model were timed with one row and with many, and with one row made layers: some of
next to no weights, and some that are packed in another way:

    one row        k x a + weights x w
    the bare ones  a + their weights x w
    n rows         one row + (n - 1) x operations / peak

The first two give `a`, what a layer takes however small it is, and `w`, what a weight takes:
its bytes over the bandwidth that software gets. `k` is what layers of experts take more. How
`w` changes with the bytes of a weight says how much of it is the weight's and not its bytes':
a core of a processor is slower at unpacking weights than its memory is at sending them.
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
    def one_s(self) -> float:
        """Seconds with one row."""
        return self.measured.layer_s[0].seconds

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


@dataclass(frozen=True, slots=True)
class TimedLayers:
    """Those of a model, with one row and with many; bare ones; and others, packed otherwise."""

    model: TimedLayer
    bare: TimedLayer
    other: TimedLayer


def device_of(
    name: str,
    kind: Kind,
    memory: float,
    layers: TimedLayers,
    *,
    constants: Constants,
    source: str,
) -> Device:
    """The machine as a device of the catalogue, with all that was measured of it.

    Args:
        name: What to call it.
        kind: What it is.
        memory: Bytes.
        layers: What was timed.
        constants: Those that forecasts are made with.
        source: Where the figures are from.

    Raises:
        BadRequest: The times do not tell the model's weights from what any layer takes.
    """
    layer, bare = layers.model, layers.bare
    plain = Device(name, kind, memory, 0.0, {}, source=source)
    more = constants.of(EXPERT_LAYERS, usual_runtime(plain)) if layer.shape.experts else 1.0
    rate = _rate(layer, bare, more)
    if not rate:
        raise BadRequest(
            f"a layer of {layer.shape.name} takes {1e3 * layer.one_s:.3f} ms, and one of next to"
            f" no weights {1e3 * bare.one_s:.3f} ms: how fast weights are read is not to be seen",
            hint="measure with a larger model, or again with --fresh when the machine is at rest",
        )
    many = layer.measured.layer_s[-1]
    # No gain of a second row is not a speed without bound: then all rows count.
    more_rows, more_s = (many.rows - 1, many.seconds - layer.one_s)
    if more_s <= 0:
        more_rows, more_s = many.rows, many.seconds
    return Device(
        name=name,
        kind=kind,
        memory=memory,
        bandwidth=rate,
        flops={"fp16": more_rows * layer.row_flops / more_s},
        source=source,
        timing=Timing(
            layer_s=max(0.0, bare.one_s - bare.read_bytes / rate),
            hop_s=bare.measured.overhead_s + NODE_S,
            bits=layer.bits,
            unpacking=_unpacking(layer, rate, layers.other, _rate(layers.other, bare, 1.0)),
        ),
    )


def _rate(layer: TimedLayer, bare: TimedLayer, more: float) -> float:
    """Bytes a second at which a layer's weights are read, 0: that is not to be seen.

    Args:
        layer: The layer.
        bare: One of next to no weights.
        more: What the layer takes more besides its weights than that one.
    """
    reading_s = layer.one_s - more * bare.one_s
    if reading_s < READING_MIN * layer.one_s:
        return 0.0
    return (layer.read_bytes - more * bare.read_bytes) / reading_s


def _unpacking(layer: TimedLayer, rate: float, other: TimedLayer, other_rate: float) -> float:
    """The share of a weight's time that does not change with its bits, 0 to 1."""
    if not other_rate:
        return 0.0
    wider = other.bits / layer.bits
    slower = wider * rate / other_rate
    return min(1.0, max(0.0, (wider - slower) / (wider - 1)))
