"""Time per token on one machine: weights pass through memory once, layer by layer.

    t = layers x a + (bytes + caches) / (e x bandwidth) + further rows x operations / (m x peak)

`a` is what a layer costs however small it is: kernels to launch, threads to join, and on a
machine whose processor feeds a GPU, that processor. `e` is the share of the memory's named
bandwidth that the kernels get, which depends on how weights are packed, and on the kind of
memory: kernels made for one stream do not fill the widest. Rows of other streams come along
in the same pass and cost what is computed for them, as the positions of a prompt do: `m` is
the share of the peak that products of many rows get.

A processor's threads meet at the end of every operation, so that each more of them adds to
`a`, and what memory sends its cores have to unpack, one after the other:

    a + cores x b       1 / (e x bandwidth) + 1 / (u x products a second x bytes of a weight)

`u` is the share of the products its vector units could make that kernels make of packed
weights.

Of a device that was measured (`Device.timing`) `a`, bandwidth and peak are what software was
seen to get of it, and no share is taken of them: `_AsMeasured` stands in for `_AsFitted`.

That decode is bound by memory: Pope et al., arXiv:2211.05102, section 2; that one efficiency is
not enough and a constant per layer is needed: least squares over llama.cpp discussion #4167
(nine chips, three precisions, worst residual 2.2 %).
"""

from __future__ import annotations

from dataclasses import dataclass

from atoll.forecast.constants import Constant, Constants
from atoll.forecast.devices import Device, Timing
from atoll.forecast.shapes import ModelShape

LAYER_S = Constant(
    "decode.layer_s", 80e-6, (0.3, 0.4, 0.3, 0.5), "ten kernels of some microseconds a layer"
)
EAGER_S = Constant(
    "decode.eager_s", 1.5e-3, (0.3, 0.7), "operations that an interpreter starts one by one"
)
EFFICIENCY = Constant("decode.efficiency", 0.8, (0.1, 0.15, 0.1), "0.8: aiconfigurator's default")
LOOSE = Constant(
    "decode.efficiency_loose", 0.45, (0.2, 0.3, 0.6), "kernels that differ much from card to card"
)
MEMORY = Constant(
    "decode.memory", 0.8, (0.1, 0.15, 0.2), "what STREAM gets of a processor's named bandwidth"
)
UNPACKING = Constant(
    "decode.unpacking", 0.1, (0.5, 0.3), "of a kernel's instructions about one in ten multiplies"
)
THREAD_S = Constant(
    "decode.thread_s", 2.5e-6, (0.5, 0.3), "30 barriers, each a turn of 80 ns on one line of cache"
)
EXPERT_ROWS = Constant(
    "decode.expert_rows", 0.5, (0.3, 0.3), "rows of a prompt, dealt out to experts"
)
CARD = Constant("decode.card", 1.0, (0.01, 0.15), "what a card gets whatever the runtime")
PACKING = Constant("decode.packing", 1.0, (0.01, 0.1, 0.1), "how well a format uses memory")
EXPERTS = Constant("decode.experts", 1.0, (0.1, 0.2), "weights of experts are read in pieces")
EXPERT_LAYERS = Constant(
    "decode.expert_layers", 1.5, (0.3, 0.3), "kernels that choose experts and gather their rows"
)
COMPUTE = Constant("decode.compute", 0.5, (0.3, 0.3, 0.2), "products of many rows, dequantised")
KV_BITS = 16.0
_TIGHT = frozenset({"Apple", "NVIDIA"})
"""Makers whose cards' kernels have been worked on so long that they are much alike."""


@dataclass(frozen=True, slots=True)
class DecodeRun:
    """One stream on one machine.

    `runtime` is what computes (`metal`, `cuda`, `vulkan`, `cpu`), `stack` the program around
    it (empty: a recent one), `host` the kind of machine that drives the device where it is
    another one, and `driver` that machine itself, where it is known. A weight takes `bits`;
    `format` names its packing. `machines` compute each layer together. `eager` frameworks
    start every operation from their interpreter.
    """

    shape: ModelShape
    device: Device
    bits: float
    runtime: str
    format: str = ""
    stack: str = ""
    host: str = ""
    driver: str = ""
    context: float = 0.0
    machines: int = 1
    eager: bool = False


@dataclass(frozen=True, slots=True)
class _AsFitted:
    """What software gets of a device by its published figures and the fitted constants."""

    run: DecodeRun
    constants: Constants

    def layer_s(self) -> float:
        """Seconds that a dense layer takes however small it is."""
        run = self.run
        kind = f"{run.runtime} {run.host}".strip()
        if run.eager:
            return self.constants.of(EAGER_S, kind)
        layer_s = self.constants.of(LAYER_S, kind, run.stack, run.driver or run.device.name)
        if run.runtime == "cpu" and run.device.cores:
            layer_s += run.device.cores * self.constants.of(THREAD_S)
        return layer_s

    def rate(self) -> float:
        """Bytes of weights and caches that are read in a second."""
        device, on_cpu = self.run.device, self.run.runtime == "cpu"
        tight = device.vendor in _TIGHT and device.kind != "cpu"
        efficiency = MEMORY if on_cpu else EFFICIENCY if tight else LOOSE
        share = self.constants.of(efficiency, self._family, device.name)
        share *= self.constants.of(CARD, device.name)
        share *= self.constants.of(PACKING, self.run.format, self.run.runtime)
        if self.run.shape.experts:
            share *= self.constants.of(EXPERTS, self.run.runtime)
        rate = device.bandwidth * share
        products = device.flops.get("int8", 0.0) / 2
        if on_cpu and products:
            unpacked = products * self.constants.of(UNPACKING) * self.run.bits / 8
            rate = 1 / (1 / rate + 1 / unpacked)
        return rate

    def flops(self) -> float:
        """Operations a second with many rows, 0: no peak is published."""
        peak = self.run.device.flops.get("fp16", 0.0)
        if not peak:
            return 0.0
        share = self.constants.of(COMPUTE, self._family, self.run.device.name)
        if self.run.shape.experts:
            share *= self.constants.of(EXPERT_ROWS, self.run.runtime)
        return peak * share

    @property
    def _family(self) -> str:
        device = self.run.device
        return f"{self.run.runtime} {device.vendor} {memory_class(device)}"


@dataclass(frozen=True, slots=True)
class _AsMeasured:
    """The same of a device that was measured: just that."""

    device: Device
    timing: Timing
    bits: float

    def layer_s(self) -> float:
        """Seconds that a dense layer takes however small it is."""
        return self.timing.layer_s

    def rate(self) -> float:
        """Bytes of weights and caches that are read in a second."""
        fixed = self.timing.unpacking
        return self.device.bandwidth / (1 - fixed + fixed * self.timing.bits / self.bits)

    def flops(self) -> float:
        """Operations a second with many rows, 0: not known."""
        return self.device.flops.get("fp16", 0.0)


def _pace(run: DecodeRun, constants: Constants) -> _AsFitted | _AsMeasured:
    """What was measured of the device goes before anything that was fitted."""
    if run.device.timing is not None:
        return _AsMeasured(run.device, run.device.timing, run.bits)
    return _AsFitted(run, constants)


def token_s(run: DecodeRun, constants: Constants) -> float:
    """Seconds for one token."""
    shape, pace = run.shape, _pace(run, constants)
    layer_s = pace.layer_s()
    if shape.experts:
        layer_s *= constants.of(EXPERT_LAYERS, run.runtime)
    weights = shape.active_params * run.bits / 8
    caches = shape.kv_values * shape.cached_positions(run.context) * KV_BITS / 8
    return shape.layers * layer_s + (weights + caches) / (run.machines * pace.rate())


def rows_s(run: DecodeRun, rows: float, constants: Constants) -> float:
    """Seconds for a pass with one row of each of several streams: the first as `token_s`; of the
    others their caches, the experts that they wake, and what is computed for them.
    """
    shape = run.shape
    more = rows - 1
    caches = shape.kv_values * shape.cached_positions(run.context) * KV_BITS / 8
    experts = (shape.woken_params(rows) - shape.active_params) * run.bits / 8
    rate = run.machines * _pace(run, constants).rate()
    return (
        token_s(run, constants) + (more * caches + experts) / rate + prompt_s(run, more, constants)
    )


def prompt_s(run: DecodeRun, tokens: float, constants: Constants) -> float:
    """Seconds to compute so many positions of a prompt; 0 where no peak is published."""
    flops = run.machines * _pace(run, constants).flops()
    return tokens * run.shape.token_flops(tokens / 2) / flops if flops else 0.0


def usual_runtime(device: Device) -> str:
    """What llama.cpp computes with on a device, unless told."""
    if device.kind == "cpu":
        return "cpu"
    return {"Apple": "metal", "NVIDIA": "cuda", "AMD": "rocm"}.get(device.vendor, "vulkan")


def memory_class(device: Device) -> str:
    """The kind of memory, without its generation."""
    kind = device.memory_kind.upper()
    return next((word for word in ("HBM", "GDDR", "LPDDR", "DDR", "SRAM") if word in kind), "")
