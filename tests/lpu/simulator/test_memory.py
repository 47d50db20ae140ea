"""Words of slices: where they are, and where they are not."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.lpu_programs import random_words, tsp

from atoll.domain.errors import BadRequest
from atoll.lpu.simulator.memory import Memory


def test_words_lie_by_slice_and_address() -> None:
    memory = Memory(2, tsp())
    words = random_words(1, 3, 2)
    memory.poke(1, "east", (9, 2), 8189, words)
    assert np.array_equal(memory.peek(1, "east", (9, 2), 8189, 3), words)
    assert np.array_equal(memory.side(1, "east")[2, 8190], words[1, 1])
    assert not memory.peek(0, "east", (9, 2), 8189, 3).any()
    assert not memory.peek(1, "west", (9, 2), 8189, 3).any()


def test_what_is_peeked_is_a_copy() -> None:
    memory = Memory(1, tsp())
    before = memory.peek(0, "west", (3,), 0, 4)
    memory.poke(0, "west", (3,), 0, random_words(2, 4))
    assert not before.any()


def test_places_that_are_not_there() -> None:
    memory = Memory(1, tsp())
    one = random_words(1, 1)
    with pytest.raises(BadRequest, match="no chip 1 of 1"):
        memory.poke(1, "west", (0,), 0, one)
    with pytest.raises(BadRequest, match="chip 0: no slice 44 in the west"):
        memory.poke(0, "west", (44,), 0, one)
    with pytest.raises(BadRequest, match="slice 3 in the east has 8192 words, and no 8192"):
        memory.peek(0, "east", (3,), 8190, 3)
    with pytest.raises(BadRequest, match="slice 3 in the east has 8192 words, and no -1"):
        memory.peek(0, "east", (3,), -1, 3)
    with pytest.raises(BadRequest, match=r"shape \(1, 1, 320\) of uint8 for 2 slices"):
        memory.poke(0, "west", (0, 1), 0, one)
