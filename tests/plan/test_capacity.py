"""How much memory a layer needs, and what a node may give."""

from __future__ import annotations

from atoll.domain.measure import WindowTime
from atoll.plan.capacity import WORK_BYTES, layer_need, layers_max, usable_bytes
from atoll.plan.fleet import Demand, Machine, ModelCosts

MODEL = ModelCosts((100, 300), (2, 4), (0, 1, 2), 8)


def machine(memory: int) -> Machine:
    return Machine("a", memory, (WindowTime(1, 1.0),))


def test_weights_and_the_caches_of_all_streams() -> None:
    assert layer_need(MODEL, Demand(streams=3, context=10)) == [160, 420]


def test_a_fifth_is_spared_and_the_program_counted() -> None:
    memory = 10 * WORK_BYTES
    assert usable_bytes(machine(memory)) == 7 * WORK_BYTES
    assert usable_bytes(machine(WORK_BYTES)) == 0
    assert layers_max(machine(memory), [WORK_BYTES, 2 * WORK_BYTES]) == 3
