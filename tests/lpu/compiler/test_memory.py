"""Where tiles, tables and what is computed lie."""

from __future__ import annotations

import pytest
from tests.support.lpu_small import timing_of

from atoll.domain.errors import BadRequest
from atoll.lpu.compiler.memory import SCRATCH, WORK, Memory


def test_a_tile_of_halves_lies_across_a_side_and_one_of_bytes_across_both() -> None:
    halves = Memory(timing_of(), "f16").tile("w", (0, 0), 320, side="east")
    assert halves.slices == (("east", tuple(range(32))),)
    assert (halves.address, halves.words) == (0, 20)
    memory = Memory(timing_of(), "int8")
    tiles = [memory.tile("w", (n,), 40, side="east") for n in range(6)]
    assert tiles[0].slices == (("west", tuple(range(8))), ("east", tuple(range(8))))
    assert tiles[4].slices[0] == ("west", tuple(range(32, 40)))
    # The sixth is where the first is, behind its three words.
    assert (tiles[5].slices, tiles[5].address) == (tiles[0].slices, 3)
    assert memory.local_words == 6


def test_what_layers_share_is_counted_from_the_last_word() -> None:
    memory = Memory(timing_of(), "f16")
    table = memory.table("t", "f16", 30, side="west", first=0)
    assert table.address == 8192 - 30
    ones = memory.tile("ones", (), 320, side="west", stored="f16", local=False)
    assert ones.address == 8192 - 50
    assert (memory.shared_words, memory.local_words) == (50, 0)
    mark = memory.mark()
    memory.scratch("f32", 7)
    assert memory.shared_words == 57
    memory.begin(mark)
    assert memory.scratch("f32", 2).address == 8192 - 52
    assert memory.shared_words == 57, "the most of all routines stays taken"


def test_scratch_lies_in_other_slices_each_time() -> None:
    memory = Memory(timing_of(), "f16")
    some = [memory.scratch("f16", 1, "west").slices for _ in range(12)]
    assert len(set(some)) == 12
    assert all(SCRATCH[0] <= s < SCRATCH[1] for slices in some for s in slices)
    assert memory.scratch("f16", 1, "west").slices == some[0]


def test_what_is_computed_lies_in_the_outer_slices() -> None:
    memory = Memory(timing_of(), "f16")
    slices = timing_of().slices
    for _ in range(8):
        tensor = memory.work("f16", 3)
        assert all(s >= slices - WORK for s in tensor.slices)


def test_a_layer_that_does_not_fit() -> None:
    memory = Memory(timing_of(words=30), "f16")
    memory.tile("w", (0,), 320, side="west")
    with pytest.raises(BadRequest, match="does not fit"):
        memory.tile("w", (1,), 320, side="west")


def test_scratch_lies_apart_from_what_is_read_with_it() -> None:
    memory = Memory(timing_of(), "f16")
    others = [memory.scratch("f32", 3) for _ in range(4)] + [memory.scratch("f16", 1, "west")]
    for _ in range(20):
        found = memory.scratch("f32", 2, apart=others)
        assert SCRATCH[0] <= found.slices[0] <= found.slices[-1] < SCRATCH[1]
        for other in others:
            assert found.side != other.side or set(found.slices).isdisjoint(other.slices)


def test_scratch_takes_the_other_side_where_one_is_full() -> None:
    memory = Memory(timing_of(), "f16")
    west = [memory.scratch("f32", 1, "west") for _ in range((SCRATCH[1] - SCRATCH[0]) // 4)]
    assert {memory.scratch("f16", 1, apart=west).side for _ in range(4)} == {"east"}


def test_scratch_lies_over_nothing() -> None:
    memory = Memory(timing_of(), "f16")
    held: set[tuple[str, int, int]] = set()
    for n in range(60):
        found = memory.scratch("f32" if n % 3 else "f16", 5)
        words = {
            (found.side, s, found.address + w) for s in found.slices for w in range(found.count)
        }
        assert held.isdisjoint(words)
        held |= words
