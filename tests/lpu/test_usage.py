"""Shares of a chip that a program uses, counted by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.lpu.check.sound import CYCLES, SECOND, TIMING, program, routine

from atoll.lpu.program import Block, Flow, Load, Multiply, Program, Read, Routine, Step, Write
from atoll.lpu.usage import Usage, amounts, usage

TIME = 2 * CYCLES
PORTS = 88
HALVES = Flow("west", "out", 0, 2)


@pytest.fixture(scope="module")
def used() -> list[Usage]:
    """The schedule runs on chips 2 and 0, and then on 0 and 1."""
    held = (Block(0, "west", (0, 1), 0, 100, "a"), Block(0, "east", (5,), 50, 24, "b"))
    return usage(replace(program(), blocks=held), TIMING)


def test_memory(used: list[Usage]) -> None:
    assert [chip.cycles for chip in used] == [TIME] * 3
    assert used[2].read == pytest.approx((16 * 20 + 4) / (PORTS * TIME))
    assert used[2].write == used[1].write == pytest.approx(4 / (PORTS * TIME))
    assert used[1].read == 0
    assert used[0].write == 2 * used[1].write
    assert [chip.read_bytes for chip in used] == [324 * 320, 0, 324 * 320]
    assert [chip.held_bytes for chip in used] == [224 * 320, 0, 0]
    assert used[0].held == pytest.approx(224 / (PORTS * 8192))


def test_planes(used: list[Usage]) -> None:
    assert used[0].load == used[2].load == pytest.approx(20 / (4 * TIME))
    assert used[0].weight_bytes == 320 * 320
    assert used[2].multiply == pytest.approx(4 / (4 * TIME))
    # One plane of four is as busy as can be with int8: its share of the peak is the same.
    assert used[2].products == pytest.approx(used[2].multiply)
    assert (used[1].load, used[1].multiply, used[1].products) == (0, 0, 0)


def test_products_of_halves_are_of_the_peak_of_halves() -> None:
    code = Multiply(at=0, count=7, stride=2, flow=HALVES, plane=0, number="f16")
    found = amounts((code,), TIMING)
    assert found.products == 7 * 320 * 320
    assert found.multiply_cycles == 7 * 2 * 2
    assert found.full_rate_cycles == 7 * 2 * 2 / 4
    load = Load(at=0, count=9, flow=HALVES, plane=0, number="f16")
    assert amounts((load,), TIMING).load_cycles == 9 * 2


def test_alus_switches_and_links(used: list[Usage]) -> None:
    assert used[2].alus == pytest.approx(4 * 3 / (16 * TIME))
    assert used[0].alus == pytest.approx(4 * (3 + 1) / (16 * TIME))
    assert used[2].switches == 0
    assert used[1].switches == pytest.approx(4 / (2 * TIME))
    assert used[2].links == pytest.approx(4 * TIMING.link_cycles / (16 * TIME))
    assert [chip.sent_bytes for chip in used] == [4 * 320, 0, 4 * 320]
    assert [chip.received_bytes for chip in used] == [4 * 320, 4 * 320, 0]
    assert [chip.instructions for chip in used] == [7 + 4, 4, 7]


def test_streams_are_in_use_as_far_as_a_value_is_wanted() -> None:
    positions, edge = TIMING.slice_positions, TIMING.edge
    code = tuple(SECOND[name] for name in ("receive", "rectify", "turn", "store"))
    turn = TIMING.switch_position
    way = edge + turn + turn - positions[7]
    assert amounts(code, TIMING).register_cycles == 4 * way
    flow = Flow("west", "out", 0, 1)
    pair = (
        Read(at=0, count=5, flow=flow, slices=(0,), address=0),
        Write(at=0, count=5, flow=flow, slices=(43,), address=0),
    )
    [found] = usage(Program(1, (Routine("r", (pair,), 50),), (Step(0, (0,), 0),)), TIMING)
    assert found.streams == pytest.approx(5 * (positions[43] - positions[0]) / (128 * edge * 50))


def test_a_program_without_steps() -> None:
    [found] = usage(Program(1, (routine(),), ()), TIMING)
    assert (found.cycles, found.read, found.instructions) == (0, 0, 0)
