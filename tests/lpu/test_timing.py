"""Positions and delays of the chip, as the schedule counts them."""

from __future__ import annotations

import pytest

from atoll.domain.errors import BadRequest
from atoll.lpu.machine import shipped_chips
from atoll.lpu.program import Alu, Flow, Operand, Result, Vector
from atoll.lpu.timing import Timing, shipped_assumed


@pytest.fixture
def timing() -> Timing:
    return Timing(shipped_chips().find("Groq TSP"), shipped_assumed())


def test_positions(timing: Timing) -> None:
    assert (timing.slice_positions[0], timing.slice_positions[43]) == (1, 11)
    assert (timing.switch_position, timing.edge) == (12, 13)


def test_a_vector_of_halves_takes_two_cycles_of_a_pair_of_planes(timing: Timing) -> None:
    assert (timing.row_cycles("int8"), timing.row_cycles("f16")) == (1, 2)


def test_ways_there_and_back(timing: Timing) -> None:
    assert timing.multiplied(100) == 100 + 13 + 20 + 40 + 13
    assert timing.switched(100) == 100 + 12 + 20 + 2 + 12
    assert timing.received(100) - 100 == 650 - 2


def test_a_value_is_there_when_the_longest_chain_is_through(timing: Timing) -> None:
    streams = Flow("east", "in", 0, 4)
    chain = Vector(
        at=10,
        operands=(Operand(streams, "f32"),),
        steps=(Alu("mul", (0, 0)), Alu("exp", (0,), 1), Alu("add", (1, 2), 2)),
        results=(Result(3, Flow("east", "out", 0, 4), "f32"),),
    )
    assert chain.depths() == (0, 1, 1, 2)
    assert timing.left(chain, 3) == 10 + 2 * timing.assumed.alu_cycles


def test_a_chip_of_which_too_little_is_published() -> None:
    timing = Timing(shipped_chips().find("NVIDIA Groq 3 LPU"), shipped_assumed())
    with pytest.raises(BadRequest, match="not published"):
        _ = timing.slices
