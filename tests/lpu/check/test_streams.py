"""Values that are missing, lost or overwritten, and values that pass each other."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.lpu.check.sound import FIRST, GOT, SENT, TIMING, conflicts, kinds

from atoll.lpu.check.streams import stream_conflicts, taps, traffic
from atoll.lpu.program import Flow, Instruction, Read, Write

OUT = Flow("west", "out", 30, 1)
IN = Flow("west", "in", 30, 1)


def read(slice_: int, at: int = 100, flow: Flow = OUT) -> Read:
    return Read(at=at, flow=flow, slices=(slice_,), address=0)


def write(slice_: int, at: int = 100, flow: Flow = OUT) -> Write:
    return Write(at=at, flow=flow, slices=(slice_,), address=5000)


def found(*code: Instruction) -> list[tuple[str, tuple[int, ...]]]:
    return [(c.kind, c.who) for c in stream_conflicts(code, TIMING)]


@pytest.mark.parametrize(
    "change",
    [
        {"load": {"at": 1}},
        {"inputs": {"at": 22}},
        {"rescale": {"at": 108}},
        {"keep": {"flow": Flow("east", "out", 1, 1)}},
        {"keep": {"flow": Flow("west", "out", 0, 1)}},
        {"send": {"stride": 25}},
        {"rectify": {"at": 762}},
        {"turn": {"at": 764, "result_at": 810}},
        {"store": {"count": 5}},
    ],
)
def test_takers_find_nothing(change: dict[str, dict[str, object]]) -> None:
    assert "missing" in kinds(**change)


@pytest.mark.parametrize("name", ["load", "multiply", "rescale", "rectify", "turn", "store"])
def test_givers_without_takers(name: str) -> None:
    assert "lost" in kinds(without=[name])


@pytest.mark.parametrize("name", ["weights", "inputs", "multiply", "rescale", "receive", "turn"])
def test_takers_without_givers(name: str) -> None:
    assert "missing" in kinds(without=[name])


def test_one_value_of_two_takers() -> None:
    assert conflicts(without=["keep"]) == []


def test_a_giver_in_the_way_of_another() -> None:
    across = Read(at=113 + 48, flow=SENT, slices=(1,), address=0)
    # What keeps stands before it, and the machine cannot know that what sends wants the same.
    assert conflicts(extra=[across]) == []
    [conflict] = conflicts(extra=[across], without=["keep"])
    assert (conflict.kind, conflict.resource, conflict.cycle) == (
        "stream",
        "stream east out 0",
        162,
    )
    assert [words.split()[0] for words in conflict.instructions] == ["Vector", "Read"]


def test_values_of_one_stream_and_phase_pass_if_one_is_taken_before_the_other_begins() -> None:
    assert found(read(0), write(8), read(20), write(40)) == []
    assert found(read(0), write(20), read(8), write(40)) == [("stream", (0, 2))]
    assert found(read(8), read(8), write(40)) == [("stream", (0, 1))]
    assert found(read(0), write(8), read(20), write(40), read(42)) == [("lost", (4,))]


def test_at_one_register_takers_are_before_givers() -> None:
    assert found(read(0), write(9), read(8), write(40)) == []
    assert found(read(8), write(9)) == [("missing", (1,)), ("lost", (0,))]


def test_inward_the_order_is_the_other_way() -> None:
    assert found(read(40, flow=IN), write(0, flow=IN)) == []
    assert found(read(0, flow=IN), write(40, flow=IN)) == [("missing", (1,)), ("lost", (0,))]


def test_phases_sides_and_ways_keep_values_apart() -> None:
    for other in (
        read(8, at=101),
        read(8, flow=IN),
        read(8, flow=Flow("east", "out", 30, 1)),
        read(8, flow=Flow("west", "out", 31, 1)),
    ):
        taker = write(0 if other.flow.way == "in" else 43, other.at, other.flow)
        assert found(read(0), other, write(40), taker) == []


def test_one_conflict_for_two_bursts_that_meet_often() -> None:
    one, other = replace(read(0), count=50), replace(read(4), count=50)
    assert found(one, other, replace(write(9), count=50)) == [("stream", (0, 1))]


def test_registers_that_hold_values() -> None:
    on = traffic((replace(read(0), count=10), write(40), replace(write(8), count=10)), TIMING)
    assert on is not None
    positions = [TIMING.slice_positions[n] for n in (0, 8, 40)]
    assert on.register_cycles == 9 * (positions[1] - positions[0]) + positions[2] - positions[0]
    assert traffic((), TIMING) is None


def test_registers_that_are_busy_in_each_cycle() -> None:
    out = traffic((replace(read(0), count=3), replace(write(40), count=3)), TIMING)
    assert out is not None
    busy = out.busy(TIMING, 130)
    assert busy.shape == (4, 130)
    assert busy[[0, 2, 3]].sum() == 0
    assert busy[1].sum() == out.register_cycles == 30
    assert busy[1, 100:115].tolist() == [0, 1, 2, *[3] * 8, 2, 1, 0, 0]
    inward = traffic((read(43, flow=IN), write(0, flow=IN)), TIMING)
    assert inward is not None
    assert inward.busy(TIMING, 130)[0].nonzero()[0].tolist() == list(range(89, 99))


def test_taps_of_instructions() -> None:
    gives = {name: [tap.gives for tap in taps(i, TIMING)] for name, i in FIRST.items()}
    assert gives["multiply"] == gives["rescale"] == [False, True]
    assert (gives["weights"], gives["load"]) == ([True], [False])
    assert [tap.at for tap in taps(FIRST["rescale"], TIMING)] == [107, 113]
    assert next(taps(replace(read(43), flow=GOT), TIMING)).positions == (11,)
