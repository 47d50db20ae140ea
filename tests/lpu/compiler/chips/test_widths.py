"""Bounds on what a width can come to are bounds."""

from __future__ import annotations

import pytest
from tests.support.lpu_small import SMALL, timing_of

from atoll.lpu.compiler.chips.widths import least, widths
from atoll.lpu.compiler.decoder.decode import DecodeCompiler, split
from atoll.lpu.compiler.memory import Stored

TIMING = timing_of()


def test_widths_divide_the_heads_of_keys() -> None:
    assert widths(SMALL, 8) == [4, 2, 1]
    assert widths(SMALL, 3) == [2, 1]


@pytest.mark.parametrize("stored", ["int8", "f16"])
@pytest.mark.parametrize("width", [1, 4])
def test_a_schedule_takes_no_less(width: int, stored: Stored) -> None:
    bound = least(SMALL, width, stored, context=40, timing=TIMING)
    compiled = DecodeCompiler(TIMING, split(SMALL, width, 40, TIMING.lanes), stored).compile()
    cycles = {name: routine.cycles for name, routine in compiled.routines.items()}
    each = SMALL.layers * (cycles["attention"] + cycles["feed-forward"]) + cycles["head"]
    words = compiled.words
    held = SMALL.layers * (words["attention"] + words["feed-forward"]) + words["head"]
    assert 0.04 * each < bound.cycles <= each
    assert 0.3 * held < bound.words <= held
