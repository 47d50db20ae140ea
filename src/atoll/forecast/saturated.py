"""Output tokens a second of accelerators that serve as many streams as they have room for.

    batch = memory beside the weights / cache of one stream, bounded
    step  = (weights + caches) / (e x n x bandwidth)          what passes through memory
          + batch x operations of a token / (m x n x peak)    what is computed for tokens
          + batch x in/out x operations of a prompt's position / (m x n x peak)
          + layers x c                                        kernels and collectives
    tokens a second = batch / step

A step gives every stream one token; streams end and begin evenly, so that each step also
computes `in/out` positions of prompts for every stream. Memory and compute are added, not
overlapped: fitted shares then stay below one. With experts a step reads those that its
tokens wake (`ModelShape.woken_params`).

Roofline terms: Pope et al., arXiv:2211.05102, section 3; batches that change at every step:
Yu et al., Orca, OSDI 2022.
"""

from __future__ import annotations

from dataclasses import dataclass

from atoll.forecast.constants import Constant, Constants
from atoll.forecast.decode import memory_class
from atoll.forecast.devices import Device
from atoll.forecast.shapes import ModelShape

USABLE = 0.9
"""Share of memory for weights and caches: the usual setting of vLLM and TensorRT-LLM."""
GUESS = "between the shares that LLM serving papers report"
MEMORY = Constant("saturated.memory", 0.6, (0.2, 0.2, 0.15), GUESS)
COMPUTE = Constant("saturated.compute", 0.5, (0.2, 0.2, 0.15), GUESS)
ATTENTION = Constant("saturated.attention", 0.3, (0.4, 0.3), GUESS)
PROMPTS = Constant(
    "saturated.prompts", 1.2, (0.2, 0.2, 0.2), "products of many rows fill a chip better"
)
SCATTER = Constant("saturated.scatter", 0.8, (0.3, 0.2), "weights of experts are read in pieces")
EXPERTS = Constant("saturated.experts", 0.6, (0.3, 0.3), "small products of many experts")
LAYER_S = Constant("saturated.layer_s", 60e-6, (0.5, 0.4, 0.2), "some kernels a layer, in a graph")
BATCH = Constant("saturated.batch", 1000.0, (0.7, 0.4), "usual bounds are 256 to 4096 streams")
LAYOUT = Constant("saturated.layout", 1.0, (0.01, 0.4), "how well a model is spread over devices")
SOFTWARE = Constant("saturated.software", 1.0, (0.01, 0.3, 0.3), "how well a stack runs a model")
SCENARIO = Constant("saturated.scenario", 1.0, (0.01, 0.3, 0.2), "throughput under latency bounds")


@dataclass(frozen=True, slots=True)
class SaturatedRun:
    """Accelerators of one kind that work as one server.

    `bits` are those of a weight, `kv_bits` of a cached value; `prompt` and `answer` tokens.
    `stack` is the software, `scenario` a bound on latency (empty: none), `layout` how the
    model is spread (`TP8`, `DEP4`, `PP2`).
    """

    shape: ModelShape
    device: Device
    n: int
    bits: float
    kv_bits: float
    prompt: float
    answer: float
    stack: str
    scenario: str = ""
    layout: str = ""


def tokens_per_s(run: SaturatedRun, constants: Constants) -> float:
    """Output tokens a second of all devices together."""
    batch = streams(run, constants)
    cached = run.shape.cached_positions(run.prompt + run.answer / 2)
    # Each step computes a part of the prompts of streams that begin.
    prompts = batch * run.prompt / run.answer * prompt_row_s(run, constants)
    caches = batch * cached * position_s(run, constants)
    return batch / (fixed_s(run, batch, constants) + caches + prompts)


def fixed_s(run: SaturatedRun, batch: float, constants: Constants) -> float:
    """Seconds of a step of so many streams, but for their caches and prompts."""
    shape = run.shape
    read = _read_params(run, batch) * run.bits / 8
    if shape.experts:
        read /= constants.of(SCATTER, _family(run.device))
    layer_s = constants.of(LAYER_S, run.stack, f"{_family(run.device)} {run.layout}")
    once = read / _bandwidth(run, constants) + batch * _products_s(run, constants)
    return (once + shape.layers * layer_s) / _factor(run, constants)


def position_s(run: SaturatedRun, constants: Constants) -> float:
    """Seconds to read one cached position of one layer."""
    cached = run.shape.kv_values * run.kv_bits / 8
    return cached / _bandwidth(run, constants) / _factor(run, constants)


def prompt_row_s(run: SaturatedRun, constants: Constants) -> float:
    """Seconds for a position of a prompt, on average."""
    shape, family = run.shape, _family(run.device)
    kind = "experts" if shape.experts else "dense"
    fuller = _products_s(run, constants) / constants.of(PROMPTS, kind, family)
    looking = 4 * shape.heads * shape.attention_width * shape.cached_positions(run.prompt / 2)
    halves = run.device.flops.get("fp16", run.device.best_flops(run.bits))
    looks_s = looking / (run.n * halves * constants.of(ATTENTION, family))
    return (fuller + looks_s) / _factor(run, constants)


def _bandwidth(run: SaturatedRun, constants: Constants) -> float:
    share = constants.of(MEMORY, _family(run.device), run.device.name)
    return run.n * run.device.bandwidth * share


def _products_s(run: SaturatedRun, constants: Constants) -> float:
    """Of one row with all the weights that it needs."""
    device, family = run.device, _family(run.device)
    share = constants.of(COMPUTE, f"{family} {_width(device, run.bits)}", device.name)
    if run.shape.experts:
        share *= constants.of(EXPERTS, family)
    return 2 * run.shape.active_params / (run.n * device.best_flops(run.bits) * share)


def _factor(run: SaturatedRun, constants: Constants) -> float:
    """What software, layout and bounds on latency leave."""
    shape, family = run.shape, _family(run.device)
    factor = constants.of(SOFTWARE, f"{run.stack} {shape.name}", f"{family} {run.layout}")
    if run.layout:
        factor *= constants.of(LAYOUT, f"{family} {run.layout}")
    if run.scenario:
        factor *= constants.of(SCENARIO, run.scenario, shape.name)
    return factor


def streams(run: SaturatedRun, constants: Constants) -> float:
    """How many streams there are at once: what memory and software allow, and at least one."""
    # A soft minimum: not every moment has as many streams as there is room for.
    return 1 / (1 / max(room_streams(run), 1.0) + 1 / software_streams(run, constants))


def room_streams(run: SaturatedRun) -> float:
    """How many streams' caches lie beside the weights; below 1: not even one's."""
    shape = run.shape
    held = shape.total_params * run.bits / 8
    if run.layout.startswith("DEP"):
        # Attention is held by every device, experts by one each.
        held += (run.n - 1) * shape.layers * shape.attention_params * run.bits / 8
    return (run.n * run.device.memory * USABLE - held) / stream_bytes(run)


def stream_bytes(run: SaturatedRun) -> float:
    """A stream's caches in the middle of its answer."""
    context = run.prompt + run.answer / 2
    return run.shape.kv_values * run.kv_bits / 8 * run.shape.cached_positions(context)


def software_streams(run: SaturatedRun, constants: Constants) -> float:
    """How many streams the software takes at once."""
    return run.n * constants.of(BATCH, run.stack)


def _read_params(run: SaturatedRun, batch: float) -> float:
    """Weights that a step reads, on all devices together."""
    shape = run.shape
    read = shape.woken_params(batch)
    if run.layout.startswith("DEP"):
        read += (run.n - 1) * shape.layers * shape.attention_params
    return read


def _width(device: Device, bits: float) -> str:
    """The numbers that products are computed with."""
    if bits <= 5 and "fp4" in device.flops:
        return "fp4"
    return "fp8" if bits <= 8.5 else "fp16"


def _family(device: Device) -> str:
    """Devices whose kernels are alike: by vendor, kind of memory, and the narrowest numbers that
    they compute with, which tell the generation.
    """
    narrowest = next((kind for kind in ("fp4", "fp8", "int8") if kind in device.flops), "fp16")
    return f"{device.vendor} {memory_class(device)} {narrowest}"
