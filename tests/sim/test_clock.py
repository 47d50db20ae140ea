from __future__ import annotations

import pytest

from atoll.sim.clock import EventHeap, FifoLink


def test_events_come_by_time_then_by_order() -> None:
    heap: EventHeap[str] = EventHeap()
    for at_s, event in ((2.0, "c"), (1.0, "a"), (1.0, "b")):
        heap.put(at_s, event)
    assert list(heap) == ["a", "b", "c"]
    assert (heap.now_s, heap.taken, len(heap)) == (2.0, 3, 0)


def test_nothing_happens_in_the_past() -> None:
    heap: EventHeap[str] = EventHeap()
    heap.put(1.0, "a")
    next(iter(heap))
    with pytest.raises(ValueError, match="before now"):
        heap.put(0.5, "b")


def test_a_link_keeps_its_order() -> None:
    link = FifoLink()
    assert [link.arrival_s(0.0, 3.0), link.arrival_s(1.0, 0.1), link.arrival_s(2.0, 5.0)] == [
        3.0,
        3.0,
        7.0,
    ]
