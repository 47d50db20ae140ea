"""Which chip has which tiles of a matrix: golden tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.domain.errors import BadRequest
from atoll.lpu.compiler.spread.split import Split, split

FIVE = """\
depth 7, 3 column tiles, 5 chips
chip 0: column 0 tiles 0-4
chip 1: column 0 tiles 5-6, column 1 tiles 0-1
chip 2: column 1 tiles 2-5
chip 3: column 1 tiles 6-6, column 2 tiles 0-2
chip 4: column 2 tiles 3-6
column 0: chips 0 1
column 1: chips 1 2 3
column 2: chips 3 4
"""
TWO = """\
depth 2, 5 column tiles, 2 chips
chip 0: column 0 tiles 0-1, column 1 tiles 0-1, column 2 tiles 0-0
chip 1: column 2 tiles 1-1, column 3 tiles 0-1, column 4 tiles 0-1
column 0: chips 0
column 1: chips 0
column 2: chips 0 1
column 3: chips 1
column 4: chips 1
"""


def written(made: Split) -> str:
    lines = [f"depth {made.depth}, {made.columns} column tiles, {made.chips} chips"]
    for place in range(made.chips):
        runs = [
            f"column {run.column} tiles {run.depth.first}-{run.depth.first + run.depth.count - 1}"
            for run in made.runs(place)
        ]
        lines.append(f"chip {place}: " + ", ".join(runs))
    for column, places in enumerate(made.groups()):
        lines.append(f"column {column}: chips " + " ".join(map(str, places)))
    return "\n".join(lines) + "\n"


def test_split_over_chips() -> None:
    assert written(split(2000, 900, 5, 320, 320)) == FIVE
    assert written(split(640, 1281, 2, 320, 320)) == TWO


@given(depth=st.integers(1, 40), columns=st.integers(1, 12), chips=st.integers(1, 60))
def test_parts_tile_the_matrix(depth: int, columns: int, chips: int) -> None:
    made = split(depth * 320, columns * 320, chips, 320, 320)
    tiles = []
    for place in range(made.chips):
        runs = made.runs(place)
        tiles += [
            (run.column, k)
            for run in runs
            for k in range(run.depth.first, run.depth.first + run.depth.count)
        ]
        assert all(made.is_whole(run) for run in runs[1:-1])
    assert tiles == [(n, k) for n in range(columns) for k in range(depth)]
    counts = {made.part(place).count for place in range(made.chips)}
    assert max(counts) - min(counts) <= 1
    assert min(counts) > 0


def test_no_more_chips_than_tiles() -> None:
    assert split(320 * 4, 64, 104, 320, 320).chips == 4


def test_no_chips() -> None:
    with pytest.raises(BadRequest, match="0 chips"):
        split(320, 64, 0, 320, 320)
