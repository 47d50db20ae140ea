"""Weights, rows and sums of a chip's part of a product lie in words of their own, or do not fit."""

from __future__ import annotations

from collections import Counter

import pytest

from atoll.lpu.compiler.spread.product_layout import (
    GROUPS_MIN,
    ROWS_MIN,
    TIMES,
    Layout,
    Part,
    layouts,
    row_blocks,
)
from atoll.lpu.compiler.spread.reduce_scatter import Span
from atoll.lpu.machine import shipped_chips
from atoll.lpu.program import Number
from atoll.lpu.timing import Timing, shipped_assumed

TIMING = Timing(shipped_chips().find("Groq TSP"), shipped_assumed())
ONE = Part(((Span(0, 1), 1, True),))
WHOLE = (Span(0, 9), 320, True)
SEVERAL = Part(((Span(5, 4), 320, False), WHOLE, WHOLE, (Span(0, 3), 192, False)))


@pytest.mark.parametrize("number", ["f16", "int8"])
@pytest.mark.parametrize(("part", "rows"), [(ONE, 1), (SEVERAL, 300)])
def test_no_two_share_a_word(part: Part, rows: int, number: Number) -> None:
    blocks = row_blocks(TIMING, rows, number, fine=True)
    layout = Layout.of(TIMING, blocks, part, number)
    assert layout is not None
    inputs = [t for run in layout.tiles for of in run.values() for w in of for t in w.tensors]
    inputs += [t for block in layout.rows for t in block.values()]
    sums = [t for run in layout.sums for t in run]
    words = Counter(
        (t.side, s, a)
        for t in [*inputs, *sums]
        for s in t.slices
        for a in range(t.address, t.address + t.count)
    )
    assert max(words.values()) == 1
    assert max(address for *_, address in words) < TIMING.words
    free = set(layout.free)
    assert all(free.isdisjoint(t.slices) for t in inputs)
    assert all(free.issuperset(t.slices) for t in sums)
    assert len(layout.free) >= GROUPS_MIN * (2 if number == "f16" else 4)


def test_sides_have_the_same_to_do() -> None:
    """Two whole column tiles are one for each side; of others each has half of the blocks."""
    first, *whole, last = SEVERAL.sides(4)
    assert whole == [("west",) * 4, ("east",) * 4]
    assert first == last == ("west", "east") * 2
    # A single block cannot be divided: 9 and 4 tiles, or 9 and 3.
    assert SEVERAL.sides(1) == [("west",), ("west",), ("east",), ("east",)]


def test_rows_of_the_depth_that_is_needed() -> None:
    part = Part(((Span(5, 2), 320, False), (Span(0, 3), 320, False)))
    layout = Layout.of(TIMING, [range(10)], part, "f16")
    assert layout is not None
    assert [sorted(block) for block in layout.rows] == [[0, 1, 2, 5, 6]]


def test_all_parts_have_room_for_sums_in_the_same_slices() -> None:
    blocks = row_blocks(TIMING, 800, "f16", fine=False)
    deep = Part(((Span(0, 102), 320, True),) * 2)
    alone = Layout.of(TIMING, blocks, ONE, "f16")
    found = layouts(TIMING, blocks, [ONE, deep, ONE], "f16")
    assert alone is not None
    assert found is not None
    assert found[ONE].free == found[deep].free != alone.free


@pytest.mark.parametrize(("number", "ways"), [("f16", 2), ("int8", 4)])
def test_blocks_of_rows(number: Number, ways: int) -> None:
    for rows in (1, 79, 200, 800, 3000):
        for fine in (False, True):
            blocks = row_blocks(TIMING, rows, number, fine=fine)
            assert [n for block in blocks for n in block] == list(range(rows))
            sizes = [len(block) for block in blocks]
            assert max(sizes) <= 256
            if rows >= ways * ROWS_MIN:
                assert min(sizes) >= ROWS_MIN
                assert len(blocks) % ways == 0
    assert len(row_blocks(TIMING, 3000, number, fine=True)) == TIMES * ways


def test_what_does_not_fit() -> None:
    blocks = row_blocks(TIMING, 3000, "f16", fine=False)
    assert layouts(TIMING, blocks, [Part(((Span(0, 102), 320, True),) * 3)], "f16") is None
