"""What a plan is told of members."""

from __future__ import annotations

import msgspec
from tests.gateway.test_ring_plan import member

from atoll.domain.ids import ModelId
from atoll.domain.measure import Measured, TierMemory, WindowTime
from atoll.engine.devices import PROCESSOR
from atoll.gateway.known_times import free_bytes, known_times
from atoll.plan.fleet import LinkEntry

MEASURED = Measured(
    model=ModelId("a" * 64),
    engine_build="b",
    device=PROCESSOR,
    threads=1,
    threads_large=1,
    layer_s=(WindowTime(1, 0.001),),
    overhead_s=0.0002,
    memory=(TierMemory("RAM", "ram", 7, 9), TierMemory("GPU", "gpu", 5, 6)),
    measured_at_s=1.0,
)


def test_members_that_were_measured() -> None:
    one, other = member(0), member(1)
    one.measured = MEASURED
    links = (LinkEntry("gateway", "n0", 0.01), LinkEntry("gateway", "n1", 0.01))
    found = known_times((WindowTime(1, 0.002),), [one, other], links)
    assert found is not None
    assert list(found.machines) == ["n0"]
    machine = found.machines["n0"]
    assert machine.layer_s == MEASURED.layer_s
    assert machine.overhead_s >= MEASURED.overhead_s
    assert machine.host == one.join.host_id
    assert machine.memory_bytes == one.join.memory_free_bytes
    assert found.links == links[:1]
    # Who rests has no part, and a plan may not hear of links to nobody.
    one.resting = True
    found = known_times((WindowTime(1, 0.002),), [one, other], links)
    assert found is not None
    assert (found.machines, found.links) == ({}, ())


def test_without_the_ends_nothing_is_known() -> None:
    assert known_times((), [member(0)], ()) is None


def test_memory_is_that_of_the_device() -> None:
    assert free_bytes(MEASURED, 7) == 7
    on_gpu = msgspec.structs.replace(MEASURED, device="CUDA0 (Great GPU)")
    assert free_bytes(on_gpu, 7) == 5
    unsized = msgspec.structs.replace(on_gpu, memory=MEASURED.memory[:1])
    assert free_bytes(unsized, 7) == 7


def test_what_a_stage_was_seen_to_take_counts_more() -> None:
    one = member(0)
    one.measured, one.slower = MEASURED, 3.0
    found = known_times((WindowTime(1, 0.002),), [one], ())
    assert found is not None
    assert found.machines["n0"].layer_s == (WindowTime(1, 0.003),)
