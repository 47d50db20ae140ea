"""Time per token of one stream whose model is spread over several machines.

In a pipeline a token passes the machines one after the other:

    t = sum of the machines' own times + sum of the ways between them + hops x h

so that more machines hold more and are no faster. `h` is what software takes for a hop:
framing, copies, a turn of an event loop; where the device was measured, so was that. With split
matrices (tensor parallelism) all machines compute each layer together and exchange its rows
twice:

    t = layers x a + bytes / (n x e x bandwidth)
      + layers x 2 x (n - 1) x (s + way + row / (r x link))

`s` is what software takes for an exchange with one other, `r` the share of a link's rate that
its small messages get. A model larger than the fast memories lies in slower ones as well, and
is read from each at its pace: `tiers`.

Sources: pipelines, Petals, arXiv:2209.01188, section 3.2, and a published receipt that gives
both terms (five machines: 127.9 ms + 71.9 ms computed, 199 ms measured); split matrices,
Megatron-LM, arXiv:1909.08053, section 3; tiers, prima.cpp, arXiv:2504.08791, section 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from atoll.forecast.constants import Constant, Constants
from atoll.forecast.decode import DecodeRun, token_s
from atoll.forecast.devices import Device

HOP_S = Constant("spread.hop_s", 1e-3, (0.7, 1.0), "a frame through two event loops")
EXCHANGE_S = Constant("spread.exchange_s", 100e-6, (0.7, 0.7), "a collective of small messages")
RATE_SHARE = Constant("spread.rate_share", 0.3, (0.5, 0.7), "of a link, by many small messages")
WAY_SHARE = Constant("spread.way_share", 1.0, (0.2, 0.3), "of half a measured round trip")
ROW_BYTES = 4.0
"""Of a value exchanged: single precision."""
EXCHANGES = 2
"""A layer's: after attention, and after the feed-forward block."""


@dataclass(frozen=True, slots=True)
class Way:
    """Between two machines: one way, seconds, and bytes a second."""

    delay_s: float
    rate: float


@dataclass(frozen=True, slots=True)
class Tier:
    """Memory of one kind: so many bytes, read at so many a second."""

    bytes: float
    rate: float


def pipeline_s(run: DecodeRun, ways_s: Sequence[float], stack: str, constants: Constants) -> float:
    """Seconds for one token round a pipeline.

    Args:
        run: The whole model, as if on one of the machines.
        ways_s: The one-way times of its hops, seconds, with the one back.
        stack: The software.
        constants: What was fitted.
    """
    devices = (run.device,) * len(ways_s)
    return token_s(run, constants) + distance_s(devices, ways_s, stack, constants)


def distance_s(
    devices: Sequence[Device], ways_s: Sequence[float], stack: str, constants: Constants
) -> float:
    """Seconds that a token is on its way, from device to device, and in the software between.

    Args:
        devices: Between which hops are.
        ways_s: The one-way times of the hops, seconds, with the one back.
        stack: The software.
        constants: What was fitted.
    """
    hops_s = sum(hop_s(device, stack, constants) for device in devices)
    return sum(ways_s) * constants.of(WAY_SHARE, stack) + hops_s


def hop_s(device: Device, stack: str, constants: Constants) -> float:
    """Seconds that software takes for a hop: as it was measured on a device, or as elsewhere."""
    return constants.of(HOP_S, stack) if device.timing is None else device.timing.hop_s


def split_s(run: DecodeRun, n: int, way: Way, stack: str, constants: Constants) -> float:
    """Seconds for one token of a model whose matrices are split over `n` machines.

    Args:
        run: The whole model, as if on one of the machines.
        n: How many machines.
        way: Between two of them.
        stack: The software.
        constants: What was fitted.
    """
    own = token_s(replace(run, machines=n), constants)
    if n == 1:
        return own
    row = run.shape.hidden * ROW_BYTES / (way.rate * constants.of(RATE_SHARE, stack))
    once = (n - 1) * (constants.of(EXCHANGE_S, stack) + way.delay_s + row)
    return own + EXCHANGES * run.shape.layers * once


def tiers_s(needed: float, tiers: Sequence[Tier]) -> float:
    """Seconds to read so many bytes once, which lie in the fastest tiers that hold them.

    Raises:
        ValueError: They do not fit.
    """
    total = 0.0
    for tier in sorted(tiers, key=lambda tier: -tier.rate):
        here = min(needed, tier.bytes)
        total += here / tier.rate
        needed -= here
    if needed > 0:
        raise ValueError("the tiers are too small")
    return total
