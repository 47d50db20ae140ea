"""The systems that a part of a fleet forms for a model: servers, rings and racks, with their
paces, and machines that stand by.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from atoll.domain.errors import BadRequest
from atoll.forecast.constants import Constants
from atoll.forecast.fleet_file import Part
from atoll.forecast.outlook import USABLE, Workload
from atoll.forecast.paces import Pace
from atoll.forecast.prices import hourly_usd
from atoll.forecast.ring_paces import Ring, ring_pace, smallest_ring
from atoll.forecast.server_paces import lpu_pace, server_pace

COMPUTES_NOTHING = ("memory-pool", "fabric", "fabric-nic")
LPU_BITS = 8.0
"""Of a weight on LPUs: what chip counts of public systems imply (a byte a weight)."""
TOKENS_MAX = 1e7


@dataclass(frozen=True, slots=True)
class Systems:
    """`count` systems alike, of `size` machines each; `spares` machines stand by, `hourly` is what
    one of these costs. A server, or a rack of chips, is one machine.
    """

    part: Part
    pace: Pace
    count: int
    size: int = 1
    spares: int = 0
    hourly: float = 0.0


def systems_of(part: Part, work: Workload, constants: Constants) -> Systems:
    """What a part forms.

    Raises:
        BadRequest: It cannot hold the model, too little is published of its devices, or a
            request has no sane number of tokens.
    """
    check_part(part, work)
    if part.is_rings:
        found = _rings(part, work, constants)
    else:
        device, n = part.line.device, part.line.n
        if device.kind == "lpu":
            pace = lpu_pace(work.shape, device, n, constants, work.paid)
        else:
            pace = server_pace(
                *(work.shape, device, n, work.bits, constants),
                software=part.software,
                lengths=(work.prompt, work.answer),
                paid=work.paid,
            )
        found = Systems(part, pace, part.count)
    if part.streams:
        found = replace(found, pace=replace(found.pace, streams_max=part.streams))
    return found


def check_part(part: Part, work: Workload) -> None:
    """Refuse what cannot serve the model.

    Raises:
        BadRequest: As `systems_of`.
    """
    if not (0 < work.prompt <= TOKENS_MAX and 0 < work.answer <= TOKENS_MAX):
        raise BadRequest(
            f"a request has 1 to {TOKENS_MAX:,.0f} tokens of a prompt, and of an answer"
        )
    for device in part.ring or (part.line.device,):
        if device.kind in COMPUTES_NOTHING:
            raise BadRequest(
                f"{device.name} computes nothing", hint="name the machines that it is to serve"
            )
        if device.kind == "lpu" and part.is_rings:
            raise BadRequest(
                f"{device.name} runs a schedule over all chips of a system, and no ring",
                hint="write it without a way: '576 x Groq LPU v1'",
            )
    _check_memory(part, work)
    for device in part.ring or (part.line.device,):
        if device.kind != "lpu" and not device.bandwidth:
            raise BadRequest(
                f"the memory bandwidth of {device.name} is not published",
                hint="describe the device in a file of your own",
            )
        if device.kind != "lpu" and not part.is_rings and not device.best_flops(work.bits):
            raise BadRequest(
                f"what {device.name} computes in a second is not published",
                hint="describe the device in a file of your own",
            )


def _check_memory(part: Part, work: Workload) -> None:
    line = part.line
    bits = LPU_BITS if line.device.kind == "lpu" else work.bits
    needed = work.shape.total_params * bits / 8
    memory = sum(device.memory for device in part.ring) if part.ring else line.memory
    if memory * USABLE < needed:
        each = line.device.memory * USABLE
        how = (
            f"it takes {math.ceil(needed / each):,} of them" if each else "its memory is not known"
        )
        if part.ring:
            how = "add machines to the ring"
        raise BadRequest(
            f"{line.name} cannot hold {work.shape.name}: {needed / 2**30:,.1f} GiB of weights",
            hint=how,
        )


def _rings(part: Part, work: Workload, constants: Constants) -> Systems:
    ring, count, spares = rings_of(part, work)
    pace = ring_pace(ring, constants, drafts=part.drafts, paid=work.paid)
    hourly = hourly_usd(part.line.device, work.paid)
    return Systems(part, pace, count, len(ring.devices), spares, hourly)


def rings_of(part: Part, work: Workload) -> tuple[Ring, int, int]:
    """A part's rings: one of them, how many there are, and machines that stand by.

    Raises:
        BadRequest: They cannot hold the model.
    """
    line = part.line
    if part.ring:
        devices, count, spares = part.ring, part.count, 0
    else:
        machines = line.n * part.count
        least = smallest_ring(work.shape, line.device, work.bits, work.prompt + work.answer)
        size = part.machines or min(least, machines)
        if size > machines:
            raise BadRequest(
                f"{line.name} has no {size} machines for a ring", hint="ask for smaller rings"
            )
        devices, count = (line.device,) * size, machines // size
        spares = machines - size * count
    ways = (line.way_s or 0.0,) * (len(devices) if len(devices) > 1 else 0)
    return Ring(work.shape, devices, work.bits, ways), count, spares
