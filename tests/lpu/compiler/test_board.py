"""Parts of a chip are given to one at a time."""

from __future__ import annotations

import numpy as np
import pytest

from atoll.lpu.compiler.board import Board, Need


def test_the_first_cycle_in_which_all_is_free() -> None:
    board = Board()
    board.take(0, [Need("a", 0b11, 0, 5), Need("b", 0b1, 7, 3)])
    assert board.first(0, [Need("a", 0b100, 0)]) == 0
    assert board.first(0, [Need("a", 0b10, 0)]) == 5
    assert board.first(0, [Need("a", 0b10, 0), Need("b", 0b1, 4)]) == 6


def test_bursts_with_a_stride_fit_between_each_other() -> None:
    board = Board()
    every_third = [Need("a", 1, 0, 4, 3)]
    assert [board.use(0, every_third) for _ in range(3)] == [0, 1, 2]
    assert board.use(0, every_third) == 12


def test_taking_what_is_taken_is_a_fault_of_ours() -> None:
    board = Board()
    board.take(3, [Need("a", 1, 0)])
    with pytest.raises(AssertionError, match="cycle 3"):
        board.take(3, [Need("a", 1, 0)])


@pytest.mark.parametrize("seed", range(20))
def test_what_is_given_is_the_first_that_is_free(seed: int) -> None:
    """Against a count of every cycle."""
    rng = np.random.default_rng(seed)
    board, taken = Board(), np.zeros((2, 400), np.int64)
    for _ in range(30):
        needs = [
            Need(part, int(rng.integers(1, 4)), *map(int, rng.integers(1, 5, 3))) for part in (0, 1)
        ]

        def free(at: int, needs: list[Need] = needs) -> bool:
            return not any(
                taken[n.parts, at + n.offset + i * n.stride] & n.mask  # type: ignore[index]
                for n in needs
                for i in range(n.count)
            )

        at = board.use(0, needs)
        assert at == next(t for t in range(300) if free(t))
        for n in needs:
            taken[n.parts, at + n.offset : at + n.offset + n.count * n.stride : n.stride] |= n.mask  # type: ignore[index]


def test_a_copy_is_a_board_of_its_own() -> None:
    board = Board()
    board.take(0, [Need("a", 1, 0)])
    other = board.copy()
    other.take(1, [Need("a", 1, 0)])
    assert [b.first(0, [Need("a", 1, 0)]) for b in (board, other)] == [1, 2]
