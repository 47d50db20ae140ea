"""Schedules written by hand, for tests of the LPU's simulator."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atoll.lpu.machine import shipped_chips
from atoll.lpu.program import Flow, Instruction, Program, Routine, Side, Step, Way
from atoll.lpu.simulator.simulator import Simulator
from atoll.lpu.timing import Timing, shipped_assumed

Bytes = NDArray[np.uint8]


@cache
def tsp() -> Timing:
    """The first LPU's times."""
    chip = shipped_chips().get("Groq TSP")
    assert chip is not None
    return Timing(chip, shipped_assumed())


def flow(side: Side, way: Way, first: int, width: int = 1) -> Flow:
    """Streams beside each other."""
    return Flow(side, way, first, width)


def one_chip(*instructions: Instruction, cycles: int = 4000, base: int = 0) -> Program:
    """A program of one routine that runs once on one chip."""
    routine = Routine("one", (tuple(instructions),), cycles)
    return Program(1, (routine,), (Step(0, (0,), 0, base),))


def simulate(*instructions: Instruction, cycles: int = 4000) -> Simulator:
    """A simulator of one chip that does this."""
    return Simulator(one_chip(*instructions, cycles=cycles), tsp())


def many_chips(*chips: Sequence[Instruction], cycles: int = 4000) -> Simulator:
    """A simulator of chips that do this together."""
    routine = Routine("all", tuple(map(tuple, chips)), cycles)
    step = Step(0, tuple(range(len(chips))), 0)
    return Simulator(Program(len(chips), (routine,), (step,)), tsp())


def random_words(seed: int, words: int, slices: int = 1) -> Bytes:
    """Words of random bytes, shape (words, slices, 320)."""
    return np.random.default_rng(seed).integers(0, 256, (words, slices, 320), np.uint8)


def as_words(values: NDArray[np.generic]) -> Bytes:
    """Numbers of shape (n, 320) as words of slices beside each other, lowest byte first."""
    n, lanes = values.shape
    flat = np.ascontiguousarray(values).view(np.uint8).reshape(n, lanes, values.itemsize)
    return np.ascontiguousarray(flat.transpose(0, 2, 1))


def as_numbers(words: Bytes, kind: str) -> NDArray[Any]:
    """Words of shape (n, bytes of a number, 320) as numbers of shape (n, 320)."""
    return np.ascontiguousarray(words.transpose(0, 2, 1)).view(kind)[..., 0]
