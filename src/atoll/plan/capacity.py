"""How many layers a node has memory for."""

from __future__ import annotations

from atoll.domain.errors import AtollError
from atoll.plan.fleet import MEMORY_SPARE, Demand, Fleet, Machine, ModelCosts

GIB = 1024**3
WORK_BYTES = 160 * 1024 * 1024
"""Beside weights and caches: processes, libraries, buffers. Measured: 99 MB for a node over
its shard and cache; a stage's compute buffers come to it."""


class NothingFits(AtollError):
    """The machines have too little memory for the model."""

    exit_code = 3


def layer_need(model: ModelCosts, demand: Demand) -> list[int]:
    """Bytes that each layer takes: weights, and the cache of all streams' contexts."""
    cells = demand.cells
    return [
        weights + cell * cells
        for weights, cell in zip(model.layer_bytes, model.kv_cell_bytes, strict=True)
    ]


def usable_bytes(machine: Machine) -> int:
    """What a plan may use of a node's free memory."""
    return max(0, int(machine.memory_bytes * (1 - MEMORY_SPARE)) - WORK_BYTES)


def layers_max(machine: Machine, need: list[int]) -> int:
    """Layers that surely fit, whichever they are: counted in the largest."""
    return usable_bytes(machine) // max(need)


def check_memory(fleet: Fleet, model: ModelCosts, demand: Demand) -> None:
    """Refuse a fleet that cannot hold the model, and say what is missing.

    Raises:
        NothingFits: With the missing GiB, and what would fit.
    """
    need = layer_need(model, demand)
    room = sum(min(model.n_layers, layers_max(machine, need)) for machine in fleet.machines)
    if room >= model.n_layers:
        return
    lacking = (model.n_layers - room) * max(need)
    # What a node lacks of a whole layer is of no use, so at least that much must be added.
    missing = lacking / (1 - MEMORY_SPARE) / GIB
    weights, cells = sum(model.layer_bytes), demand.cells
    cache, streams = sum(need) - weights, max(demand.streams, demand.slots)
    hint = "add a node with so much memory free, or end other programs on those there are"
    if cache > weights / 4 and cells:
        spare = sum(usable_bytes(machine) for machine in fleet.machines) - weights
        fits = int(spare / (cache / cells) / streams) // 256 * 256
        if fits >= 256:
            hint += f"; or serve with --context {fits}, which would fit, or with fewer streams"
    raise NothingFits(
        f"{missing:.1f} GiB of memory are missing: {model.n_layers} layers and the caches of"
        f" {streams} x {demand.context} tokens need {sum(need) / GIB:.1f} GiB beside a"
        f" spare of {MEMORY_SPARE:.0%}, and {room} of the layers have room",
        hint=hint,
    )
