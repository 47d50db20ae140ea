"""Phases of bursts, masks of streams, and who does what when."""

from __future__ import annotations

from atoll.lpu.program import Block, Flow, Load, Program, Read, Routine, Step

STREAMS = Flow("west", "out", 4, 3)
READ = Read(at=7, count=3, stride=5, flow=STREAMS, slices=(0, 1, 2), address=9)
LOAD = Load(at=7, count=3, flow=STREAMS, plane=0, number="int8")


def test_a_flow_is_a_bit_for_each_stream() -> None:
    assert STREAMS.mask == 0b1110000
    assert STREAMS.part(1, 2) == Flow("west", "out", 5, 2)


def test_a_burst_ends_after_its_last_vector() -> None:
    assert (READ.end, LOAD.end) == (18, 10)


def test_steps_run_routines_on_chips() -> None:
    two = Routine("two", ((READ,), (LOAD,)), 30)
    steps = (Step(0, (3, 1), at=0), Step(0, (1, 2), at=40, base=64))
    program = Program(4, (two,), steps, (Block(1, "west", (0,), 0, 4, "x"),))
    assert program.cycles == 70
    assert list(program.on(1)) == [(steps[0], LOAD), (steps[1], READ)]
    assert list(program.on(0)) == []
