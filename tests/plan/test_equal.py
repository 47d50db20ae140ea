from __future__ import annotations

import itertools

import pytest

from atoll.domain.errors import CannotCut
from atoll.plan.equal import equal_cut


def lengths(ranges: tuple[tuple[int, int], ...]) -> list[int]:
    return [last - first for first, last in ranges]


def test_even_split_keeps_the_ends_out() -> None:
    assert equal_cut(30, 1, 4, range(31)) == ((1, 8), (8, 15), (15, 22), (22, 29))


def test_what_is_left_over_goes_to_the_earlier_nodes() -> None:
    assert equal_cut(30, 1, 3, range(31)) == ((1, 11), (11, 20), (20, 29))


def test_one_node_takes_everything_between_the_ends() -> None:
    assert equal_cut(5, 1, 1, range(6)) == ((1, 4),)


def test_without_ends_all_layers_are_given() -> None:
    assert equal_cut(4, 0, 4, range(5)) == ((0, 1), (1, 2), (2, 3), (3, 4))


def test_only_allowed_boundaries_are_used() -> None:
    assert equal_cut(18, 0, 2, (6, 12)) == ((0, 12), (12, 18))
    assert equal_cut(18, 0, 3, (6, 12)) == ((0, 6), (6, 12), (12, 18))


@pytest.mark.parametrize(("nodes", "allowed"), [(3, (2, 3, 7, 9, 14)), (4, (1, 2, 8, 11, 13))])
def test_no_allowed_choice_is_more_even(nodes: int, allowed: tuple[int, ...]) -> None:
    got = sum(length**2 for length in lengths(equal_cut(16, 0, nodes, allowed)))
    costs = []
    for chosen in itertools.combinations(allowed, nodes - 1):
        marks = (0, *chosen, 16)
        costs.append(sum((b - a) ** 2 for a, b in itertools.pairwise(marks)))
    assert got == min(costs)


@pytest.mark.parametrize("nodes", range(1, 29))
def test_ranges_tile_the_middle(nodes: int) -> None:
    ranges = equal_cut(30, 1, nodes, range(31))
    assert [layer for first, last in ranges for layer in range(first, last)] == list(range(1, 29))
    assert max(lengths(ranges)) - min(lengths(ranges)) <= 1


def test_more_nodes_than_layers() -> None:
    with pytest.raises(CannotCut, match="5 nodes cannot share 4 layers") as failure:
        equal_cut(6, 1, 5, range(7))
    assert "start fewer nodes" in failure.value.hint


def test_ends_that_swallow_the_model() -> None:
    with pytest.raises(CannotCut, match="1 nodes cannot share 0 layers"):
        equal_cut(2, 1, 1, range(3))


def test_more_nodes_than_pieces() -> None:
    with pytest.raises(CannotCut, match="3 nodes cannot share 2 pieces"):
        equal_cut(18, 0, 3, (6,))


def test_ends_at_a_forbidden_boundary() -> None:
    with pytest.raises(CannotCut, match="cannot be cut before layer 1") as failure:
        equal_cut(18, 1, 2, (6, 12))
    assert "6, 12" in failure.value.hint


@pytest.mark.parametrize(("ends", "nodes"), [(-1, 1), (1, 0)])
def test_numbers_out_of_range(ends: int, nodes: int) -> None:
    with pytest.raises(ValueError, match="out of range"):
        equal_cut(18, ends, nodes, range(19))
