"""Times that users of a server see while it serves a number of streams at once.

    step  = layers x (c + 2 x k x all-reduce) + (weights + streams x cache) / (e x n x bandwidth)
    tpot  = step + share of steps that also compute a prompt's positions
    ttft  = f + half a step + prompt x operations / (m x n x peak)

`c` is what a layer costs on one device. Where matrices are split over several, a layer ends
with two all-reduces of the streams' rows: as they were measured for that system, or for
NVLink's where it was not, times `k`. Prompts of others are computed in the same steps
(chunked prefill), so a token waits for its part of them.

Sources: continuous batching, Yu et al., Orca, OSDI 2022; chunked prefill, Agrawal et al.,
arXiv:2403.02310; collectives, Megatron-LM, arXiv:1909.08053.
"""

from __future__ import annotations

from dataclasses import dataclass

from atoll.forecast.constants import Constant, Constants
from atoll.forecast.decode import memory_class
from atoll.forecast.devices import Device
from atoll.forecast.shapes import ModelShape
from atoll.forecast.wires import shipped_wires

GUESS = "between the shares that LLM serving papers report"
LAYER_S = Constant("serving.layer_s", 60e-6, (0.4, 0.4), "some kernels a layer, in a graph")
COLLECTIVE = Constant("serving.collective", 1.5, (0.4, 0.5), "the measured time, and a wait")
EXPERT_LAYERS = Constant("serving.expert_layers", 1.5, (0.5,), "choosing and gathering experts")
MEMORY = Constant("serving.memory", 0.75, (0.1, 0.15), GUESS)
COMPUTE = Constant("serving.compute", 0.45, (0.3, 0.3), GUESS)
EXPERTS = Constant("serving.experts", 0.5, (0.5,), "small products of many experts")
FIRST_S = Constant("serving.first_s", 15e-3, (0.7,), "a request's way through a server")
ROW_BYTES = 2.0
"""Of a value in an all-reduce: half precision."""
USUAL = "NVIDIA H100 SXM"
"""Whose all-reduces stand for those that were not measured."""


@dataclass(frozen=True, slots=True)
class Load:
    """Streams at once, and tokens of their prompts and answers, on average."""

    streams: float
    prompt: float
    answer: float


@dataclass(frozen=True, slots=True)
class Server:
    """`n` devices that split every matrix; weights and cached values in bits."""

    shape: ModelShape
    device: Device
    n: int
    bits: float
    kv_bits: float = 16.0


def step_s(server: Server, load: Load, constants: Constants) -> float:
    """Seconds of a step that gives every stream one token."""
    shape = server.shape
    context = load.prompt + load.answer / 2
    caches = load.streams * shape.cached_positions(context)
    return fixed_s(server, load.streams, constants) + caches * position_s(server, constants)


def fixed_s(server: Server, streams: float, constants: Constants) -> float:
    """Seconds of a step, but for the caches of its streams."""
    shape, device = server.shape, server.device
    weights = shape.woken_params(streams) * server.bits / 8
    layer_s = constants.of(LAYER_S, device.kind)
    if shape.experts:
        layer_s *= constants.of(EXPERT_LAYERS)
    if server.n > 1:
        rows = streams * shape.hidden * ROW_BYTES
        wires = shipped_wires()
        once = wires.all_reduce_s(device.name, server.n, rows, link=device.link)
        if once is None:
            once = wires.all_reduce_s(USUAL, server.n, rows, link=device.link) or 0.0
        layer_s += 2 * once * constants.of(COLLECTIVE, device.kind)
    return shape.layers * layer_s + weights / _rate(server, constants)


def position_s(server: Server, constants: Constants) -> float:
    """Seconds to read one cached position of one layer."""
    return server.shape.kv_values * server.kv_bits / 8 / _rate(server, constants)


def _rate(server: Server, constants: Constants) -> float:
    device = server.device
    return server.n * device.bandwidth * constants.of(MEMORY, memory_class(device))


def prompt_s(server: Server, load: Load, constants: Constants) -> float:
    """Seconds to compute one prompt."""
    flops = server.shape.token_flops(load.prompt / 2)
    return load.prompt * flops * operation_s(server, constants)


def operation_s(server: Server, constants: Constants) -> float:
    """Seconds of one operation for a prompt."""
    share = constants.of(COMPUTE, memory_class(server.device))
    if server.shape.experts:
        share *= constants.of(EXPERTS)
    return 1 / (server.n * server.device.best_flops(server.bits) * share)


def tpot_s(server: Server, load: Load, constants: Constants) -> float:
    """Seconds between tokens of a stream: a step, and its part of others' prompts."""
    others = load.streams * prompt_s(server, load, constants) / load.answer
    return step_s(server, load, constants) + others


def ttft_s(server: Server, load: Load, constants: Constants) -> float:
    """Seconds to the first token where nobody waits for room."""
    wait = step_s(server, load, constants) / 2 + constants.of(FIRST_S)
    return wait + prompt_s(server, load, constants)
