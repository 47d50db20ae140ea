"""Arrays of uses, and how they are packed and searched."""

from __future__ import annotations

import pytest
from tests.lpu.check.sound import FIRST

from atoll.domain.errors import BadRequest
from atoll.lpu.check.conflicts import Conflict, Found, Uses, first_of_pairs, ints, pack, spread


def test_rows_are_repeated_and_counted() -> None:
    rows, n = spread(ints([2, 0, 3]))
    assert rows.tolist() == [0, 0, 2, 2, 2]
    assert n.tolist() == [0, 1, 0, 1, 2]
    assert all(len(found) == 0 for found in spread(ints([])))


def test_fields_are_packed_in_order() -> None:
    key, shifts = pack((ints([1, 0]), 2), (ints([5, 9]), 10), (ints([0, 0]), 1))
    assert shifts == [5, 1, 0]
    assert key.tolist() == [(1 << 5) + (5 << 1), 9 << 1]
    assert pack((ints([3]), 1 << 40), (ints([3]), 1 << 22))[1] == [22, 0]
    with pytest.raises(BadRequest, match="too long"):
        pack((ints([3]), 1 << 40), (ints([3]), 1 << 23))


def test_pairs_are_told_once() -> None:
    one, other = ints([1, 2, 1, 1]), ints([2, 1, 2, 3])
    assert first_of_pairs(one, other).tolist() == [0, 1, 3]


def test_units_that_are_held() -> None:
    uses = Uses(*map(ints, ([0, 0, 1], [0, 13, 0], [3, 1, 1], [5, 1, 1], [7, 8, 9])))
    assert [found.tolist() for found in uses.clashes(3)] == [[], [], [], []]
    assert [found.tolist() for found in uses.clashes(4)] == [[0], [13], [7], [8]]
    assert [found.tolist() for found in uses.clashes(6)][2:] == [[7, 7], [7, 8]]
    assert all(len(found) == 0 for found in Uses(*[ints([])] * 5).clashes(1))


def test_conflicts_in_words() -> None:
    code = list(FIRST.values())
    conflict = Found("matrix", "too soon", 40, "plane 0", (1, 3)).on("r", 2, code)
    assert (conflict.routine, conflict.chip, len(conflict.instructions)) == ("r", 2, 2)
    first, *others = str(conflict).split("\n")
    assert first == "matrix: r, chip 2, cycle 40, plane 0: too soon"
    assert [line.split()[0] for line in others] == ["Load", "Multiply"]
    assert str(Conflict("step", "late", 0, 1, "chip")).startswith("step: program, chip 0")
