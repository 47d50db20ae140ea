"""Ports, banks and addresses of memory slices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from tests.lpu.check.sound import TIMING, kinds

from atoll.lpu.check.memory import memory_conflicts
from atoll.lpu.program import Flow, Instruction, Read, Write

OUT = Flow("west", "out", 0, 1)
IN = Flow("west", "in", 0, 1)
HALF = 4096


def read(at: int, slice_: int = 5, flow: Flow = OUT, **fields: Any) -> Read:
    return Read(at=at, flow=flow, slices=(slice_,), **{"address": 0, **fields})


def write(at: int, slice_: int = 5, flow: Flow = OUT, **fields: Any) -> Write:
    return Write(at=at, flow=flow, slices=(slice_,), **{"address": HALF, **fields})


def found(*code: Instruction, bases: Sequence[int] = (0,)) -> list[tuple[str, tuple[int, ...]]]:
    return [(c.kind, c.who) for c in memory_conflicts(code, TIMING, bases)]


CLASH = [("memory", (0, 1))]


def test_a_port_serves_one_vector_a_cycle() -> None:
    assert found(read(9), read(9)) == found(write(9), write(9)) == CLASH
    assert found(read(9), read(10)) == found(read(9), read(9, 6)) == []
    assert found(read(9), read(9, flow=Flow("east", "out", 0, 1))) == []


def test_ways_meet_where_cycles_are_the_same() -> None:
    position = TIMING.slice_positions[5]
    assert found(read(20 - position), read(20 + position, flow=IN)) == CLASH
    assert found(read(20), read(20, flow=IN)) == []


def test_bursts_meet_in_single_cycles() -> None:
    assert found(read(0, count=5, stride=3), read(1, count=5, stride=4)) == CLASH
    assert found(read(0, count=5, stride=2), read(1, count=5, stride=2)) == []
    assert found(read(0, count=5, stride=3), read(13, count=2)) == []


def test_a_slice_twice_in_one_instruction() -> None:
    twice = Read(at=0, flow=Flow("west", "out", 0, 2), slices=(3, 3), address=0)
    assert found(twice) == [("memory", (0, 0))]


@pytest.mark.parametrize(
    ("reads", "writes", "is_apart"),
    [
        ({}, {}, True),
        ({}, {"address": HALF - 1}, False),
        ({"address": HALF}, {"address": 0}, True),
        ({"index": "token"}, {}, False),
        ({}, {"index": "token"}, False),
        ({"local": True}, {}, True),
        ({}, {"local": True}, True),
    ],
)
def test_a_read_and_a_write_are_in_different_banks(
    reads: dict[str, Any], writes: dict[str, Any], is_apart: bool
) -> None:
    assert found(read(9, **reads), write(9, **writes)) == ([] if is_apart else CLASH)


def test_the_bank_of_a_local_address_is_known_if_all_steps_agree() -> None:
    pair = read(9, local=True), write(9)
    assert found(*pair, bases=(0, HALF - 1)) == []
    assert found(*pair, bases=(0, HALF)) == CLASH
    assert found(*pair, bases=(HALF,)) == CLASH


def test_banks_change_within_a_burst() -> None:
    rising = write(0, address=HALF - 3, count=6)
    assert found(read(0, address=0, count=2, stride=3), rising) == CLASH
    assert found(read(3, address=0, count=3), rising) == []
    assert found(read(2, address=0, count=3), rising) == CLASH
    assert found(read(0, address=0, count=2), write(0, count=2, step=-1)) == CLASH


def test_addresses_are_of_words() -> None:
    outside = [("address", (0,))]
    assert (
        found(read(0, address=8190, count=2)) == found(read(0, address=1, count=2, step=-1)) == []
    )
    assert found(read(0, address=8190, count=3)) == found(read(0, address=-1)) == outside
    assert found(read(0, address=1, count=3, step=-1)) == outside
    assert found(read(0, address=1, local=True), bases=(0, 8190)) == []
    assert found(read(0, address=1, local=True), bases=(0, 8191)) == outside
    assert found(read(0, address=1, local=True), bases=(-2, 0)) == outside


def test_of_an_indexed_address_the_span_is_known() -> None:
    assert found(read(0, address=9000, index="token")) == []
    assert found(read(0, count=3, step=4095, index="token")) == []
    assert found(read(0, count=3, step=4096, index="token")) == [("address", (0,))]


def test_what_is_written_is_there_later() -> None:
    delay = TIMING.assumed.memory_cycles
    assert delay == 2
    known: dict[str, Any] = {"address": 7}
    assert found(write(10, **known), read(11, **known)) == CLASH
    assert found(write(10, **known), read(10 + delay, **known)) == []
    assert found(read(10, **known), write(11, **known)) == []
    assert found(write(10, **known), read(11, address=8)) == []
    assert found(write(10, **known), read(11, 6, **known)) == []
    assert found(write(10, **known), read(11, address=5, count=5, step=1)) == []
    assert found(write(10, **known), read(9, address=6, count=2, stride=2)) == CLASH
    assert found(write(10, **known), read(11, local=True, **known)) == []
    local: dict[str, Any] = {"local": True, **known}
    assert found(write(10, **local), read(11, **local), bases=(0, 5000)) == CLASH
    assert found(write(10, **known), read(11, index="token", **known)) == []
    other = write(11, address=5000)
    assert found(write(10, **known), other, read(11, **known)) == [("memory", (0, 2))]


def test_in_a_schedule() -> None:
    assert "memory" in kinds(inputs={"slices": (0,), "at": 19})
    assert kinds(weights={"address": 8173}) == {"address"}
